"""The command line of the scaling measurement.

scripts/scale                         5, 10, 20 and 50 nodes; takes about two minutes
scripts/scale --nodes 6 --idle 2      a look
"""

import argparse
import asyncio
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Never

from host import processor
from scripts.benchmark.table import lines, number
from scripts.scaling.fleet import Overdue
from scripts.scaling.growth import RULE, Growth, judge
from scripts.scaling.measuring import Figures, measure

FEWEST, MOST = 3, 200

ROWS: Final[Sequence[tuple[str, Callable[[Figures], float]]]] = (
    ("all start at once: until all know all, ms", lambda each: 1e3 * each.all_known_s),
    ("… until all agree on one coordinator, ms", lambda each: 1e3 * each.agreed_s),
    ("… CPU time of each node, ms", lambda each: 1e3 * each.joining_cpu_s),
    ("at rest, per node: received, B/s", lambda each: each.bytes_in),
    ("… sent, B/s", lambda each: each.bytes_out),
    ("… received, messages/s", lambda each: each.messages_in),
    ("… sent, messages/s", lambda each: each.messages_out),
    ("… CPU, % of a core", lambda each: 1e2 * each.cpu),
    ("a fact is set: until a median node has it, ms", lambda each: 1e3 * each.fact_s),
    ("… until the last has it, at worst, ms", lambda each: 1e3 * each.fact_at_most_s),
    ("a node is killed: until all have noticed, ms", lambda each: 1e3 * each.missed_s),
    ("one more joins: until all know all, ms", lambda each: 1e3 * each.rejoined_s),
    ("the coordinator is killed: until another acts, ms", lambda each: 1e3 * each.replaced_s),
)

NOTE: Final = """\
Traffic is what the bus says, without what ZeroMQ (heartbeats), CURVE and TCP add to it. All nodes share this
machine's {cores} cores with whatever else runs on it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; 0: nothing grows faster than the number of nodes, 1: something does, or it failed."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _stop)  # so that a `kill` leaves no folder behind
    cores = processor.usable_count()
    try:
        figures = asyncio.run(_measure_all(options.nodes, options.idle))
    except Overdue as error:
        print(f"No figures: {error}", file=sys.stderr)
        return 1
    judged = judge(figures, cores)
    print(render(figures))
    print("\n" + NOTE.format(cores=cores))
    if judged:
        print("\n" + RULE + "\n")
        print(render_growth(judged))
    return 0 if all(growth.is_kept for growth in judged) else 1


def render(figures: Sequence[Figures]) -> str:
    """One column for each size."""
    head = ["nodes", *(str(each.nodes) for each in figures)]
    rows = [[name, *(number(read(each)) for each in figures)] for name, read in ROWS]
    return "\n".join(lines([head, *rows]))


def render_growth(judged: Sequence[Growth]) -> str:
    """One row for each figure that is held to a limit."""
    head = ["nodes", "figure", "unit", "measured", "at most", "kept"]
    rows = [
        [
            str(each.nodes),
            each.what,
            each.unit,
            number(each.value),
            number(each.limit),
            "yes" if each.is_kept else "NO",
        ]
        for each in judged
    ]
    return "\n".join(lines([head, *rows]))


async def _measure_all(sizes: Sequence[int], idle_s: float) -> list[Figures]:
    figures = []
    for nodes in sizes:
        print(f"{nodes} nodes …", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="exo-scale-") as folder:
            figures.append(await measure(nodes, idle_s, Path(folder)))
    return figures


def _stop(number: int, frame: object) -> Never:
    sys.exit(128 + number)


def _sizes(given: str) -> list[int]:
    sizes = [int(each) for each in given.split(",")]
    if not sizes or not all(FEWEST <= size <= MOST for size in sizes):
        raise argparse.ArgumentTypeError(f"numbers of nodes are {FEWEST} to {MOST}, like 5,10,20,50")
    return sizes


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/scale",
        description="Starts clusters of light nodes (the real bus, the real placement, no engines) on this "
        "machine, and prints what they cost at rest and how soon they converge.",
    )
    parser.add_argument("--nodes", type=_sizes, default=[5, 10, 20, 50], help="sizes, like 5,10,20,50")
    parser.add_argument("--idle", type=float, default=8.0, help="seconds of rest that are measured")
    return parser


if __name__ == "__main__":
    sys.exit(main())
