"""A small cluster without sockets: nodes with an office, a register and engines, step by step."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from actors.coordination.govern import govern
from actors.coordination.office import Office, Standing
from actors.coordination.register import Register
from actors.coordination.situation import History, Situation
from bus.messages.base import InstanceId, ModelId, NodeId
from bus.messages.engine import Phase
from bus.messages.facts import (
    Accelerator,
    AcceleratorKind,
    CoordinatorFact,
    InstanceFact,
    Memory,
    ModelFact,
    NodeFact,
    RankFact,
)
from bus.messages.placement import (
    Choice,
    Instance,
    Interconnect,
    Previews,
    Ruled,
    Sharding,
    Stage,
    Term,
    ToCoordinator,
    Wish,
)

STEP_S = 0.25
LOADING_STEPS = 3
LAYERS = 8
NO_TERM = Term()
OUT = Standing(None, NO_TERM, False, None)


def node_fact(id: str, started_at: float = 0.0, free: int = 100, leaving: bool = False) -> NodeFact:
    return NodeFact(
        id=NodeId(id),
        name=f"name-{id}",
        version="1",
        url="",
        started_at=started_at,
        memory=Memory(total_bytes=100, available_bytes=free),
        accelerator=Accelerator(kind=AcceleratorKind.CPU, name=""),
        cpu_count=1,
        leaving=leaving,
    )


def model_fact(node: str, model: str, size: int, mark: str = "") -> ModelFact:
    return ModelFact(
        id=ModelId(model),
        node=NodeId(node),
        path="",
        size_bytes=size,
        architecture="",
        context=512,
        created_at=0.0,
        folder_mark=mark,
    )


def plan(
    wish: Wish,
    models: Sequence[ModelFact],
    nodes: Sequence[NodeFact],
    promised: Mapping[NodeId, int],
) -> Previews:
    """As few stages as hold it, on the nodes with most room; every stage of the same size."""
    copies = {fact.node: fact.size_bytes for fact in models if fact.id == wish.model}
    free = {
        node.id: node.memory.available_bytes - promised.get(node.id, 0) for node in nodes if node.id in copies
    }
    if not free or not set(wish.nodes) <= set(free):
        return Previews(choices=(), ruled_out=(Ruled("model", "the nodes that are asked for are not there"),))
    size = max(copies.values())
    order = wish.nodes or tuple(sorted(free, key=lambda node: (-free[node], node)))
    counts = [len(wish.nodes)] if wish.nodes else [wish.stages] if wish.stages else [1, 2, 4]
    for count in counts:
        chosen, part = order[:count], -(-size // count)
        if len(chosen) == count and all(free[node] >= part for node in chosen):
            return Previews(choices=(_choice(chosen, part),))
    return Previews(choices=(), ruled_out=(Ruled("memory", f"{size} needed, {sum(free.values())} free"),))


def _choice(nodes: Sequence[NodeId], part: int) -> Choice:
    width = LAYERS // len(nodes)
    stages = tuple(Stage(i * width, (i + 1) * width, (node,), part) for i, node in enumerate(nodes))
    return Choice(stages, Sharding.PIPELINE, Interconnect.RING, 512, 1.0, "it fits")


@dataclass(slots=True)
class Engine:
    """One rank of one placement, on its node."""

    instance: Instance
    rank: int
    steps: int = 0
    phase: Phase = Phase.CONNECTING
    reason: str = ""

    @property
    def held(self) -> int:
        part = self.instance.stages[self.rank].needed_bytes
        return part if self.phase in (Phase.LOADING, Phase.WARMING, Phase.READY) else 0

    def fact(self) -> RankFact:
        node = self.instance.nodes[self.rank]
        return RankFact(
            instance=self.instance.id,
            epoch=self.instance.epoch,
            rank=self.rank,
            node=node,
            phase=self.phase,
            reason=self.reason,
            active_bytes=self.held,
        )

    def whole(self) -> InstanceFact:
        instance = self.instance
        return InstanceFact(
            id=instance.id,
            epoch=instance.epoch,
            model=instance.model,
            nodes=instance.nodes,
            phase=self.phase,
            reason=self.reason,
            since=0.0,
        )


@dataclass(slots=True)
class Node:
    """A machine: what it knows, and what it runs."""

    id: NodeId
    started_at: float
    office: Office
    register: Register
    alive: bool = True
    leaving: bool = False
    standing: Standing = OUT
    history: History = field(default_factory=dict)
    orders: list[ToCoordinator] = field(default_factory=list)
    met: dict[NodeId, str] = field(default_factory=dict)
    engines: dict[tuple[InstanceId, int], Engine] = field(default_factory=dict)

    def wanted(self) -> dict[tuple[InstanceId, int], Instance]:
        """The placements in which it has a rank, by its own register."""
        found: dict[tuple[InstanceId, int], Instance] = {}
        for fact in self.register.declared.values():
            for instance in () if fact.withdrawn else (fact.instance, fact.successor):
                if instance is not None and self.id in instance.nodes:
                    found[instance.id, instance.epoch] = instance
        return found

    def fact(self) -> NodeFact:
        held = sum(engine.held for engine in self.engines.values())
        return node_fact(self.id, self.started_at, 100 - held, self.leaving)


class World:
    """The nodes, who reaches whom, and time. A node sees all of its own part of the cluster, at once."""

    def __init__(self, seed: int, nodes: int, models: Mapping[str, int]) -> None:
        self.random = random.Random(seed)
        random.seed(seed)  # the jitter of waits
        self.now, self.made = 100.0, 0
        self.models = dict(models)
        self.nodes: dict[NodeId, Node] = {}
        self.parts: dict[NodeId, int] = {}
        self.terms: dict[Term, NodeId] = {}
        self.withdrawn: set[InstanceId] = set()
        for number in range(nodes):
            self.start(NodeId(f"n{number}"))

    def start(self, id: NodeId) -> None:
        """Also what a node does that comes back: its register was on disk."""
        before = self.nodes.get(id)
        kept = before.register if before is not None else Register()
        register = Register(kept.declared.values(), kept.highest)
        office = Office(id, highest=register.highest)
        self.nodes[id] = Node(id, self.now + len(self.nodes) / 1000, office, register)
        office.open(self.now)
        self.parts.setdefault(id, 0)

    def alive(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.alive]

    def part_of(self, node: Node) -> list[Node]:
        return [other for other in self.alive() if self.parts[other.id] == self.parts[node.id]]

    def order(self, *orders: ToCoordinator) -> None:
        """Asked for in every part of the cluster that has a coordinator."""
        for node in self.alive():
            if node.standing.acting:
                node.orders += orders

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP_S)):
            self.step()

    def step(self) -> None:
        self.now += STEP_S
        for node in self.alive():
            self.merge(node)
        for node in self.alive():
            self.compute(node)
        for node in self.alive():
            self.stand(node)
            if node.standing.acting:
                self.decide(node)

    def merge(self, node: Node) -> None:
        for other in self.part_of(node):
            node.met[other.id] = f"name-{other.id}"
            for fact in other.register.declared.values():
                node.register.take(fact)

    def stand(self, node: Node) -> None:
        part = self.part_of(node)
        heads = {
            other.id: CoordinatorFact(node=other.id, term=other.standing.term, since=0.0)
            for other in part
            if other.standing.acting and other is not node
        }
        members = {other.id: other.started_at for other in part}
        node.office.saw(members, heads, self.now, node.register.highest)
        was, node.standing = node.standing, node.office.tick(self.now)
        if node.standing.acting and was.term != node.standing.term:
            assert node.standing.term not in self.terms, "a term is taken once"
            self.terms[node.standing.term] = node.id
            node.history = {}
        node.register.see(node.standing.term)

    def decide(self, node: Node) -> None:
        before = node.register.declared
        verdict = govern(self.situation(node), self.now)
        node.orders.clear()
        node.history = verdict.history
        for fact in verdict.declare:
            held = before.get(fact.instance.id)
            assert held is None or not held.withdrawn, "what is withdrawn stays so"
            assert held is None or fact.instance.epoch >= held.instance.epoch
            same = held is not None and fact.instance.epoch == held.instance.epoch
            assert not same or (held is not None and fact.instance.stages == held.instance.stages)
            self.withdrawn |= {fact.instance.id} if fact.withdrawn else set()
            assert node.register.declare(fact, self.now).reason == fact.reason

    def situation(self, node: Node) -> Situation:
        part = self.part_of(node)
        engines = [engine for other in part for engine in other.engines.values()]
        return Situation(
            me=node.id,
            term=node.standing.term,
            started=node.started_at,
            declared=node.register.declared,
            members={other.id: other.fact() for other in part},
            met=dict(node.met),
            ranks=tuple(engine.fact() for engine in engines),
            instances=tuple(engine.whole() for engine in engines if engine.rank == 0),
            models=tuple(model_fact(other.id, *model) for other in part for model in self.models.items()),
            plan=plan,
            new_id=self.new_id,
            orders=tuple(node.orders),
            history=node.history,
        )

    def new_id(self) -> InstanceId:
        self.made += 1
        return InstanceId(f"i{self.made}")

    def compute(self, node: Node) -> None:
        """Each node runs what is declared on it, and gives up an epoch that lost a rank."""
        wanted = node.wanted()
        for key, engine in list(node.engines.items()):
            if wanted.get(key) != engine.instance:
                del node.engines[key]
        for key, instance in wanted.items():
            engine = node.engines.setdefault(key, Engine(instance, instance.nodes.index(node.id)))
            self.advance(node, engine)

    def advance(self, node: Node, engine: Engine) -> None:
        if engine.phase is Phase.FAILED:
            return
        part = {other.id: other for other in self.part_of(node)}
        key = engine.instance.id, engine.instance.epoch
        others = [part[id].engines.get(key) if id in part else None for id in engine.instance.nodes]
        peers = [other for other in others if other is not None and other.instance == engine.instance]
        lost = len(peers) < len(others) and engine.steps > 1
        if lost or any(peer.phase is Phase.FAILED for peer in peers):
            engine.phase, engine.reason = Phase.FAILED, "another rank is lost"
        elif len(peers) == len(others):
            engine.steps += 1
            engine.phase = Phase.READY if engine.steps > LOADING_STEPS else Phase.LOADING
