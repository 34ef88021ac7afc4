"""How many tokens per second one stream can expect of a division, as far as can be told beforehand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Final

from actors.planner.machines import Machine
from actors.planner.memory import runs
from bus.messages.base import NodeId
from bus.messages.facts import Shape
from bus.messages.placement import Interconnect

_LAYER_S: Final = 30e-6
"""What a layer costs beside reading its weights: starting its kernels."""

_STEP_S: Final = 500e-6
"""What a step costs beside its layers: planning, sampling, telling."""


@dataclass(frozen=True, slots=True)
class Link:
    """What a path between two nodes can do."""

    latency_s: float
    """One way, for a few bytes."""
    bytes_per_s: float

    def carry_s(self, size_bytes: float) -> float:
        """How long so many bytes take."""
        return self.latency_s + size_bytes / self.bytes_per_s


LAN: Final = Link(150e-6, 110e6)
"""Between nodes whose path is not measured: Gigabit Ethernet."""

RDMA: Final = Link(15e-6, 5e9)
"""Between nodes that reach into each other's memory over Thunderbolt 5 or better."""


class Links:
    """The paths between nodes: those that are measured, and a guess for the others."""

    def __init__(self, measured: Mapping[tuple[NodeId, NodeId], Link]) -> None:
        self._measured = measured

    @property
    def known(self) -> bool:
        """Whether any is measured."""
        return bool(self._measured)

    def between(self, here: NodeId, there: NodeId) -> Link:
        """The path between two nodes, measured from either side."""
        measured = self._measured
        return measured.get((here, there)) or measured.get((there, here)) or LAN

    def best(self, at_most: int) -> list[NodeId]:
        """The ends of the quickest measured paths, each node once."""
        paths = sorted((link.latency_s, -link.bytes_per_s, pair) for pair, link in self._measured.items())
        ends = dict.fromkeys(node for _, _, pair in paths for node in pair)
        return list(ends)[:at_most]


class Pace:
    """Reckons how long a token takes: weights over bandwidth, and what has to travel over links."""

    def __init__(self, shape: Shape, links: Links) -> None:
        self.links = links
        self._read = list(accumulate(shape.active_bytes or shape.layer_bytes, initial=0))
        self._head = shape.other_bytes
        self._state = shape.hidden * shape.element_bytes

    def tokens_per_s(
        self, groups: Sequence[Sequence[Machine]], layers: Sequence[int], interconnect: Interconnect
    ) -> float:
        """Of one stream. `groups`: the tensor ranks of each stage."""
        seconds = _STEP_S
        for group, (first, end) in zip(groups, runs(layers), strict=True):
            slowest = min(machine.rate for machine in group)
            seconds += (self._read[end] - self._read[first]) / len(group) / slowest
            seconds += (end - first) * (_LAYER_S + 2 * self._reduce_s(group, interconnect))
        seconds += self._head / min(machine.rate for machine in groups[-1])
        return 1 / (seconds + self._hops_s(groups, interconnect))

    def _hops_s(self, groups: Sequence[Sequence[Machine]], interconnect: Interconnect) -> float:
        """From stage to stage, and the token back to the first."""
        if len(groups) == 1:
            return 0.0
        forward = sum(
            self._link(here[0], there[0], interconnect).carry_s(self._state)
            for here, there in pairwise(groups)
        )
        return forward + self._link(groups[-1][0], groups[0][0], interconnect).latency_s

    def _reduce_s(self, group: Sequence[Machine], interconnect: Interconnect) -> float:
        """One sum over a group: around a ring twice, or straight from each to each where RDMA is a mesh."""
        ranks = len(group)
        if ranks == 1:
            return 0.0
        if interconnect is Interconnect.JACCL:
            return RDMA.carry_s(self._state)
        around = zip(group, [*group[1:], group[0]], strict=True)
        part = self._state / ranks
        slowest = max(self._link(here, there, interconnect).carry_s(part) for here, there in around)
        return 2 * (ranks - 1) * slowest

    def _link(self, here: Machine, there: Machine, interconnect: Interconnect) -> Link:
        return RDMA if interconnect is Interconnect.JACCL else self.links.between(here.id, there.id)
