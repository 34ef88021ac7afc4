"""The command line of the soak.

scripts/soak                     20 minutes on one node
scripts/soak --minutes 2         a look
scripts/soak --nodes 2           on two nodes that have half of the layers each
"""

import argparse
import asyncio
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Never

import aiohttp

from scripts.benchmark import machine
from scripts.benchmark.process import ProcessDied
from scripts.soaking.report import render
from scripts.soaking.run import Plan, soak


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all promises were kept, 1: some were not, or it failed."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _stop)  # so that a `kill` takes the servers down, too
    print(machine.describe(machine.look()) + "\n", flush=True)
    plan = Plan(
        seconds=60 * options.minutes,
        seed=options.seed,
        users=options.users,
        nodes=options.nodes,
        budget=options.budget,
    )
    with tempfile.TemporaryDirectory(prefix="exo-soak-") as scratch:
        try:
            found = asyncio.run(soak(plan, Path(scratch)))
        except (ProcessDied, OSError, TimeoutError, LookupError, aiohttp.ClientError) as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            return 1
    print(render(plan, found))
    return 1 if found.wrong else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=20.0, help="how long users ask (20)")
    parser.add_argument("--seed", type=int, default=1, help="what the traffic is drawn from (1)")
    parser.add_argument("--users", type=int, default=24, help="who ask at the same time (24)")
    parser.add_argument("--nodes", type=int, choices=(1, 2), default=1, help="2: a pipeline of two nodes")
    parser.add_argument(
        "--budget", type=float, default=0.5, help="KV cache, as a share of what the traffic wants (0.5)"
    )
    return parser


def _stop(number: int, frame: object) -> Never:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
