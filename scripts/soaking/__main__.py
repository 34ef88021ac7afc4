"""The command line of the soak.

scripts/soak                                20 minutes on one node
scripts/soak --minutes 3                    a look
scripts/soak --draft                        with a draft model
scripts/soak --ranks 2                      on two nodes that have half of the layers each
scripts/soak --ranks 2 --sharding tensor    or half of each layer
"""

import argparse
import asyncio
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Never

import aiohttp

from bus.messages.placement import Sharding
from scripts.benchmark import machine
from scripts.benchmark.process import ProcessDied
from scripts.soaking.findings import Plan
from scripts.soaking.report import render
from scripts.soaking.run import soak
from scripts.soaking.serving import Refused


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all promises were kept, 1: some were not, some were not put to the test, or it failed."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _stop)  # so that a `kill` takes the servers down, too
    print(machine.describe(machine.look()) + "\n", flush=True)
    plan = Plan(
        seconds=60 * options.minutes,
        seed=options.seed,
        users=options.users,
        ranks=options.ranks,
        sharding=Sharding(options.sharding),
        draft=options.draft,
        budget=options.budget,
    )
    with _scratch(options.keep) as scratch:
        try:
            found = asyncio.run(soak(plan, Path(scratch)))
        except (ProcessDied, Refused, OSError, TimeoutError, LookupError, aiohttp.ClientError) as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            return 1
    print(render(plan, found))
    return 1 if found.wrong or found.untried() else 0


def _scratch(keep: Path | None) -> AbstractContextManager[str | Path]:
    """Where models and logs are written."""
    if keep is None:
        return tempfile.TemporaryDirectory(prefix="exo-soak-")
    keep.mkdir(parents=True)
    return nullcontext(keep)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=20.0, help="how long users ask (20)")
    parser.add_argument("--seed", type=int, default=1, help="what the traffic is drawn from (1)")
    parser.add_argument("--users", type=int, default=24, help="who ask at the same time (24)")
    parser.add_argument("--ranks", type=int, choices=(1, 2), default=1, help="2: on two nodes")
    parser.add_argument(
        "--sharding", choices=("pipeline", "tensor"), default="pipeline", help="of two ranks (pipeline)"
    )
    parser.add_argument("--draft", action="store_true", help="a small model guesses ahead")
    parser.add_argument("--keep", type=Path, help="a new folder for models and logs, which stay there")
    parser.add_argument(
        "--budget", type=float, default=0.5, help="KV cache, as a share of what the traffic wants (0.5)"
    )
    return parser


def _stop(number: int, frame: object) -> Never:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
