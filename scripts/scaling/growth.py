"""Whether what a cluster costs, and how long it takes, grows no faster than its number of nodes. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from scripts.scaling.measuring import Figures

MARGIN: Final = 1.5
"""Times are of one run each, on a machine that does other things too: so much more than linear is still taken
for linear. What really grows with the square is 10 times more than linear from 5 nodes to 50."""

MARGIN_OF_TRAFFIC: Final = 1.2
"""What passes is nearly the same in every run."""

MOMENT_S: Final = 0.2
"""Times below it say nothing about growth: one turn of the scheduler decides them."""

RULE: Final = """\
Held to linear growth from the smallest cluster on, with the number of others: per node, traffic at rest (a
fifth more is let pass) and CPU time to join (half more, as for all times). To converge, and to take one more
in, may take as long as that, and the CPU time that all nodes on this machine together need for it, spread
over its cores: each of n nodes greets n - 1 others, which on one machine, unlike on n, is n times as much."""


@dataclass(frozen=True, slots=True)
class Growth:
    """One figure of a cluster, and the most that it may be."""

    nodes: int
    what: str
    unit: str
    value: float
    limit: float

    @property
    def is_kept(self) -> bool:
        """It grows no faster than it may."""
        return self.value <= self.limit


def judge(figures: Sequence[Figures], cores: int) -> list[Growth]:
    """Each larger cluster against the smallest one."""
    if not figures:
        return []
    least, *others = sorted(figures, key=lambda each: each.nodes)
    return [growth for each in others for growth in _compare(least, each, cores)]


def _compare(least: Figures, grown: Figures, cores: int) -> list[Growth]:
    times = (grown.nodes - 1) / (least.nodes - 1)
    work_s = grown.joining_cpu_s * grown.nodes / cores
    all_known_s = MARGIN * (times * max(least.all_known_s, MOMENT_S) + work_s)
    # One that joins an idle cluster shares what the cores can do only with those that greet it.
    rejoined_s = MARGIN * (times * max(least.rejoined_s, MOMENT_S) + 2 * work_s / grown.nodes)
    traffic = MARGIN_OF_TRAFFIC * times * least.bytes
    cpu_s = MARGIN * times * max(least.joining_cpu_s, MOMENT_S / cores)
    return [
        Growth(grown.nodes, "idle traffic per node", "B/s", grown.bytes, traffic),
        Growth(grown.nodes, "CPU time of a node to join", "s", grown.joining_cpu_s, cpu_s),
        Growth(grown.nodes, "until all know all", "s", grown.all_known_s, all_known_s),
        Growth(grown.nodes, "until all know one more", "s", grown.rejoined_s, rejoined_s),
    ]
