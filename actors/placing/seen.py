"""What the facts of the cluster say that placing models needs to know, sorted by kind. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from actors.coordination.register import precedence
from actors.coordination.sight import OVER
from bus.messages.base import InstanceId, ModelId, NodeId
from bus.messages.facts import (
    CoordinatorFact,
    DeclaredFact,
    Fact,
    InstanceFact,
    ModelFact,
    NodeFact,
    RankFact,
    WishFact,
)
from bus.messages.placement import Wish


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at the cluster. Facts of nodes that are no members are not among them."""

    members: Mapping[NodeId, NodeFact]
    coordinators: Mapping[NodeId, CoordinatorFact]
    declared: Mapping[tuple[NodeId, InstanceId], DeclaredFact]
    """By the node that says so."""
    ranks: tuple[RankFact, ...]
    instances: tuple[InstanceFact, ...]
    models: tuple[ModelFact, ...]
    wishes: tuple[WishFact, ...]

    @classmethod
    def of(cls, facts: Mapping[str, Fact]) -> Self:
        """Sort the facts of a view."""
        return cls(
            members={fact.id: fact for fact in facts.values() if isinstance(fact, NodeFact)},
            coordinators={fact.node: fact for fact in facts.values() if isinstance(fact, CoordinatorFact)},
            declared={
                (NodeId(key.split("/")[1]), fact.instance.id): fact
                for key, fact in facts.items()
                if isinstance(fact, DeclaredFact)
            },
            ranks=tuple(fact for fact in facts.values() if isinstance(fact, RankFact)),
            instances=tuple(fact for fact in facts.values() if isinstance(fact, InstanceFact)),
            models=tuple(fact for fact in facts.values() if isinstance(fact, ModelFact)),
            wishes=tuple(fact for fact in facts.values() if isinstance(fact, WishFact)),
        )

    @property
    def held(self) -> dict[NodeId, int]:
        """Bytes that models hold on each node."""
        held: dict[NodeId, int] = {}
        for rank in self.ranks:
            if rank.phase in OVER:
                continue
            held[rank.node] = held.get(rank.node, 0) + rank.active_bytes
        for fact in self.instances:
            if len(fact.nodes) == 1 and fact.phase not in OVER:
                (node,) = fact.nodes
                held[node] = held.get(node, 0) + fact.active_bytes
        return held

    def copies_of(self, model: ModelId) -> tuple[ModelFact, ...]:
        """Which nodes have its files."""
        return tuple(fact for fact in self.models if fact.id == model)

    def knows(self, node: NodeId | None, fact: DeclaredFact) -> bool:
        """Whether that node has said as much of an instance, or more."""
        if node is None:
            return False
        said = self.declared.get((node, fact.instance.id))
        return said is not None and precedence(said) >= precedence(fact)

    def unheard_wishes(self, declared: Iterable[DeclaredFact]) -> tuple[Wish, ...]:
        """What nodes were started to serve, where nothing was declared of the model since.

        What was declared since and then withdrawn by somebody is not brought back.
        """
        latest: dict[ModelId, float] = {}
        for fact in declared:
            model = fact.instance.model
            at = fact.at if fact.withdrawn else float("inf")
            latest[model] = max(latest.get(model, 0.0), at)
        wanted = {
            wish.model: wish
            for said in sorted(self.wishes, key=lambda said: (said.since, said.node), reverse=True)
            for wish in said.wishes
            if latest.get(wish.model, 0.0) < said.since
        }
        return tuple(wanted.values())
