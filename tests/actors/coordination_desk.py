"""A coordinator's desk: a situation that tests change between one decision and the next."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import msgspec

from actors.coordination.govern import govern
from actors.coordination.situation import Situation, Verdict
from bus.messages.base import InstanceId, NodeId
from bus.messages.engine import Phase
from bus.messages.facts import DeclaredFact, InstanceFact, RankFact
from bus.messages.placement import Create, Instance, Term, ToCoordinator, Wish
from tests.actors.coordination_world import model_fact, node_fact, plan

TERM = Term(3, NodeId("a"))
START = 1000.0
LONG = 60.0


@dataclass
class Desk:
    """A coordinator's desk: what it knows, changed between one decision and the next."""

    state: Situation
    now: float = START
    ids: list[str] = field(default_factory=lambda: [f"i{n}" for n in range(1, 20)])

    def decide(self, *orders: ToCoordinator) -> Verdict:
        """Take its verdict as done."""
        verdict = govern(replace(self.state, orders=orders, new_id=self.new_id), self.now)
        declared = dict(self.state.declared) | {fact.instance.id: fact for fact in verdict.declare}
        self.state = replace(self.state, declared=declared, history=verdict.history)
        return verdict

    def new_id(self) -> InstanceId:
        return InstanceId(self.ids.pop(0))

    def fact(self, id: str = "i1") -> DeclaredFact:
        return self.state.declared[InstanceId(id)]

    def instance(self, id: str = "i1") -> Instance:
        return self.fact(id).instance

    def nodes(self, **free: int) -> None:
        """These live, with so much free memory."""
        members = {NodeId(id): node_fact(id, free=room) for id, room in free.items()}
        met = dict(self.state.met) | {id: fact.name for id, fact in members.items()}
        self.state = replace(self.state, members=members, met=met)

    def leaves(self, id: str) -> None:
        members = dict(self.state.members)
        members[NodeId(id)] = msgspec.structs.replace(members[NodeId(id)], leaving=True)
        self.state = replace(self.state, members=members)

    def runs(self, *instances: Instance, phase: Phase = Phase.READY, running: int = 0) -> None:
        """All ranks of these, and nothing else, are in that phase."""
        ranks = [rank_fact(instance, rank, phase) for instance in instances for rank in range_of(instance)]
        wholes = [whole_fact(instance, phase, running) for instance in instances]
        self.state = replace(self.state, ranks=tuple(ranks), instances=tuple(wholes))

    def fails(self, rank: int, permanent: bool = False, lingering: Iterable[int] = ()) -> None:
        """A rank of i1 ended, and so did the others that don't linger."""
        instance = self.instance()
        phases = {
            other: Phase.READY if other in set(lingering) else Phase.FAILED for other in range_of(instance)
        }
        ranks = [
            rank_fact(instance, other, phase, permanent and other == rank)
            for other, phase in phases.items()
            if other == rank or phase is Phase.READY or permanent
        ]
        self.state = replace(self.state, ranks=tuple(ranks), instances=())

    def wait(self, seconds: float) -> Verdict:
        self.now += seconds
        return self.decide()


def range_of(instance: Instance) -> range:
    return range(len(instance.nodes))


def rank_fact(instance: Instance, rank: int, phase: Phase, permanent: bool = False) -> RankFact:
    held = instance.stages[rank // instance.tensor].needed_bytes if phase is not Phase.FAILED else 0
    return RankFact(
        instance=instance.id,
        epoch=instance.epoch,
        rank=rank,
        node=instance.nodes[rank],
        phase=phase,
        reason="ended: killed" if phase is Phase.FAILED else "",
        permanent=permanent,
        active_bytes=held,
    )


def whole_fact(instance: Instance, phase: Phase, running: int = 0) -> InstanceFact:
    return InstanceFact(
        id=instance.id,
        epoch=instance.epoch,
        model=instance.model,
        nodes=instance.nodes,
        phase=phase,
        reason="",
        since=0.0,
        running=running,
    )


def desk_of(nodes: str) -> Desk:
    """Nodes that each have 100 free, a model of 30 and one of 180."""
    models = [model_fact(node, *model) for node in nodes for model in (("small", 30), ("large", 180))]
    state = Situation(
        me=NodeId("a"),
        term=TERM,
        started=0.0,
        declared={},
        members={},
        met={},
        ranks=(),
        instances=(),
        models=tuple(models),
        plan=plan,
        new_id=lambda: InstanceId(""),
    )
    desk = Desk(state)
    desk.nodes(**dict.fromkeys(nodes, 100))
    return desk


def create(model: str = "large", once: bool = False, replicas: int = 1, **wish: object) -> Create:
    wished = msgspec.convert({"model": model, **wish}, Wish)
    return Create(wish=wished, once=once, replicas=replicas)


def ids(verdict: Verdict) -> list[InstanceId]:
    return [fact.instance.id for fact in verdict.declare]
