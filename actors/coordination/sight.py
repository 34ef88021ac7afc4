"""How the declared instances are, read off the facts of the nodes that run them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from bus.messages.base import InstanceId, NodeId
from bus.messages.engine import Phase
from bus.messages.facts import DeclaredFact, InstanceFact, RankFact
from bus.messages.placement import Instance

LOADED = frozenset({Phase.WARMING, Phase.READY, Phase.DRAINING})
"""Phases in which what a rank holds shows in its node's free memory."""

OVER = frozenset({Phase.FAILED, Phase.STOPPED})


@dataclass(frozen=True, slots=True)
class RankState:
    """One rank of one epoch."""

    rank: int
    node: NodeId
    phase: Phase
    reason: str
    permanent: bool
    active_bytes: int
    prefix_bytes: int = 0

    @property
    def over(self) -> bool:
        """It holds nothing any more, and never will in this epoch."""
        return self.phase in OVER


class Sight:
    """The facts of live nodes, found by instance. A fact counts only for the very placement that it is about:
    after a split the same epoch may have been placed twice, on other nodes."""

    def __init__(self, ranks: Iterable[RankFact], instances: Iterable[InstanceFact]) -> None:
        self._ranks = {(fact.instance, fact.epoch, fact.rank, fact.node): fact for fact in ranks}
        self._instances = {(fact.id, fact.epoch, fact.nodes): fact for fact in instances}

    def whole(self, instance: Instance) -> InstanceFact | None:
        """What rank 0 says of all of it."""
        return self._instances.get((instance.id, instance.epoch, instance.nodes))

    def is_ready(self, instance: Instance) -> bool:
        """It takes requests."""
        fact = self.whole(instance)
        return fact is not None and fact.phase is Phase.READY

    def rank(self, instance: Instance, rank: int) -> RankState | None:
        """How a rank is; None: it has not been heard of."""
        node = instance.nodes[rank]
        fact = self._ranks.get((instance.id, instance.epoch, rank, node))
        if fact is not None:
            return RankState(
                rank, node, fact.phase, fact.reason, fact.permanent, fact.active_bytes, fact.prefix_bytes
            )
        whole = self.whole(instance)
        if rank != 0 or whole is None:
            return None
        # An engine that is alone is restarted on its node: that it failed there is that node's last word.
        alone = len(instance.nodes) == 1
        return RankState(rank, node, whole.phase, whole.reason, alone, whole.active_bytes, whole.prefix_bytes)

    def ranks(self, instance: Instance) -> tuple[RankState, ...]:
        """Those that have been heard of."""
        states = (self.rank(instance, rank) for rank in range(len(instance.nodes)))
        return tuple(state for state in states if state is not None)


# -- how a placement is ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fine:
    """It runs, or is on its way."""


@dataclass(frozen=True, slots=True)
class Gone:
    """Nodes of it are no members any more."""

    nodes: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class Broken:
    """A rank ended or failed, and so has the epoch."""

    rank: RankState
    lingering: tuple[NodeId, ...]
    """Nodes whose ranks have not let go yet."""


Health: TypeAlias = Fine | Gone | Broken


def health(instance: Instance, members: Mapping[NodeId, object], sight: Sight) -> Health:
    """How a placement is that has stages."""
    gone = tuple(node for node in instance.nodes if node not in members)
    if gone:
        return Gone(gone)
    states = sight.ranks(instance)
    over = [state for state in states if state.over]
    if not over:
        return Fine()
    culprit = min(over, key=lambda state: (not state.permanent, state.rank))
    return Broken(culprit, tuple(state.node for state in states if not state.over))


# -- memory ----------------------------------------------------------------------------------------


def promised(declared: Mapping[InstanceId, DeclaredFact], sight: Sight) -> dict[NodeId, int]:
    """Bytes that placed instances will still take on each node, which its free memory does not show yet; less
    what they keep for later prompts, and give back as soon as something else is placed there."""
    total: dict[NodeId, int] = {}
    for fact in declared.values():
        placements = () if fact.withdrawn else (fact.instance, fact.successor)
        for instance in placements:
            if instance is not None:
                add(total, outstanding(instance, sight))
                add(total, spare(instance, sight), sign=-1)
    return total


def outstanding(instance: Instance, sight: Sight) -> dict[NodeId, int]:
    """What one placement will still take."""
    left: dict[NodeId, int] = {}
    needs = (stage.needed_bytes for stage in instance.stages for _ in stage.nodes)
    for rank, needed in enumerate(needs):
        state = sight.rank(instance, rank)
        add(left, {instance.nodes[rank]: _left(needed, state)})
    return left


def held(instance: Instance, sight: Sight) -> dict[NodeId, int]:
    """What comes free on each node when a placement ends."""
    freed: dict[NodeId, int] = {}
    for state in sight.ranks(instance):
        add(freed, {state.node: 0 if state.over else state.active_bytes})
    return freed


def spare(instance: Instance, sight: Sight) -> dict[NodeId, int]:
    """What of that comes free as soon as it is wanted: what is kept of earlier prompts."""
    kept: dict[NodeId, int] = {}
    for state in sight.ranks(instance):
        add(kept, {state.node: 0 if state.over else state.prefix_bytes})
    return kept


def add(total: dict[NodeId, int], more: Mapping[NodeId, int], sign: int = 1) -> None:
    """Add to each node's bytes, or take from them."""
    for node, count in more.items():
        total[node] = total.get(node, 0) + sign * count


def _left(needed: int, state: RankState | None) -> int:
    if state is None:
        return needed
    if state.over or state.phase in LOADED:
        return 0
    return max(0, needed - state.active_bytes)
