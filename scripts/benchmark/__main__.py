"""The command line of the benchmark.

scripts/bench                        everything; takes about 40 minutes
scripts/bench throughput stall       these only
scripts/bench --quick                a look, with fewer rounds
"""

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Never

import msgspec

from scripts.benchmark import machine
from scripts.benchmark.contenders import ROOT, MlxLm
from scripts.benchmark.load import Load
from scripts.benchmark.machine import Machine
from scripts.benchmark.measures import Section
from scripts.benchmark.process import ProcessDied
from scripts.benchmark.rig import Rig
from scripts.benchmark.scenarios import (
    agents,
    cancel,
    chat,
    cold,
    goodput,
    identity,
    pipeline,
    schema,
    stall,
    tensor,
    throughput,
    warm,
)
from scripts.benchmark.table import render

SCENARIOS: dict[str, Callable[[Rig], Iterable[Section]]] = {
    "throughput": throughput.run,
    "stall": stall.run,
    "cancel": cancel.run,
    "cold": cold.run,
    "warm": warm.run,
    "chat": chat.run,
    "agents": agents.run,
    "schema": schema.run,
    "goodput": goodput.run,
    "identity": identity.run,
    "pipeline": pipeline.run,
    "tensor": tensor.run,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the scenarios asked for; 0: all promises were kept, 1: some were not, or it failed."""
    parser = _parser()
    options = parser.parse_args(arguments)
    unknown = [name for name in options.scenario if name not in SCENARIOS]
    if unknown:
        parser.error(f"no scenario {unknown[0]}; there are {', '.join(SCENARIOS)}")
    signal.signal(signal.SIGTERM, _stop)  # so that a `kill` takes the servers down, too
    found = machine.look()
    print(machine.describe(found) + "\n", flush=True)
    sections: list[Section] = []
    with tempfile.TemporaryDirectory(prefix="exo-bench-") as scratch, Load(ROOT) as load:
        rig = Rig(load, Path(scratch), peers(options.peer, found.blas), options.quick)
        try:
            for name in options.scenario or SCENARIOS:
                for section in SCENARIOS[name](rig):
                    sections.append(section)
                    print(render(section), flush=True)
        except (ProcessDied, RuntimeError) as error:
            print(error, file=sys.stderr)
            return 1
        finally:
            if options.json:
                options.json.write_bytes(_as_json(found, sections))
    return 0 if all(is_kept(section) for section in sections) else 1


def peers(wish: str | None, blas: str) -> tuple[MlxLm, ...]:
    """Whom to compare with, the fairest first."""
    lent, shipped = MlxLm(blas), MlxLm()
    match wish:
        case "openblas":
            return (lent,)
        case "stock":
            return (shipped,)
        case "none":
            return ()
        case _:
            return (lent, shipped) if blas else (shipped,)


def is_kept(section: Section) -> bool:
    """Whether no promise of the section was broken."""
    return all(
        measure.is_met(section.ours, section.peers[0] if section.peers else "") is not False
        for measure in section.measures
    )


def _as_json(found: Machine, sections: Sequence[Section]) -> bytes:
    content = {"machine": asdict(found), "sections": sections}
    return msgspec.json.format(msgspec.json.encode(content), indent=2)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenario", nargs="*", help=f"of {', '.join(SCENARIOS)}; none: all")
    parser.add_argument("--quick", action="store_true", help="a quarter of the rounds, the small model only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round's figures to this file")
    parser.add_argument(
        "--peer",
        choices=["openblas", "stock", "none"],
        help="compare only with mlx_lm.server on the system's OpenBLAS, or as it is shipped, or with nobody",
    )
    return parser


def _stop(number: int, frame: object) -> Never:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
