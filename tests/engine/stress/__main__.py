"""The command line: random traffic of many seeds, on one case or on all."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from host import blas


def main(arguments: Sequence[str] | None = None) -> None:
    blas.preload()  # before MLX is imported
    from scripts.make_model import ARCHITECTURES
    from tests.engine.stress.cases import Case, Division, Guessed
    from tests.engine.stress.crew import run

    parser = argparse.ArgumentParser(prog="python -m tests.engine.stress", description=__doc__)
    parser.add_argument("architecture", choices=sorted(ARCHITECTURES))
    parser.add_argument("division", type=Division, choices=list(Division))
    parser.add_argument("--kv-bits", type=int, choices=(8, 4))
    parser.add_argument("--guessed", type=Guessed, choices=list(Guessed), default=Guessed.NOWHERE)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one, or the first and the last")
    parser.add_argument("--requests", type=int, default=25)
    chosen = parser.parse_args(arguments)
    case = Case(chosen.architecture, chosen.division, chosen.kv_bits, chosen.guessed)
    seeds = range(chosen.seeds[0], chosen.seeds[-1] + 1)
    with tempfile.TemporaryDirectory() as root:
        began = time.monotonic()
        for ran in run(case, seeds, chosen.requests, Path(root)):
            now = time.monotonic()
            say = f"{case} --seeds {ran.seed}: {ran.tokens} tokens, {ran.worst:.1e} off, {now - began:.1f} s"
            sys.stdout.write(say + "\n")
            sys.stdout.flush()
            began = now


if __name__ == "__main__":
    main()
