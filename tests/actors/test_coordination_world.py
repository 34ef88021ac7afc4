"""A cluster whose nodes die, leave, come back and are parted serves in the end what was asked of it, once."""

import pytest

from actors.coordination.situation import REJOIN_S
from bus.messages.base import InstanceId, ModelId, NodeId
from bus.messages.engine import Phase
from bus.messages.facts import DeclaredFact
from bus.messages.placement import Create, Instance, Wish, Withdraw
from tests.actors.coordination_world import STEP_S, Node, World, plan

MODELS = {"small": 30, "middle": 90, "large": 180}
SERVED_S = 30.0
"""In a cluster where nothing happens, all that can be has its place after so long."""

QUIET_S = 15.0

DEAD_S = 10.0
"""What is declared on nodes that are no more is not left so for longer, while somebody acts."""


class Troubled(World):
    """Things happen to its nodes."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, nodes=4, models=MODELS)
        self.dead_for: dict[tuple[NodeId, InstanceId], float] = {}

    def disturb(self) -> None:
        node = self.nodes[self.random.choice(sorted(self.nodes))]
        match self.random.randrange(8):
            case 0 if len(self.alive()) > 1:
                node.alive = False
            case 1 | 2 if not node.alive:
                self.start(node.id)
            case 3:
                self.parts = {id: self.random.randrange(2) for id in self.nodes}
            case 4:
                self.parts = dict.fromkeys(self.nodes, 0)
            case 5 if len(self.alive()) > 2:
                node.leaving = True
            case 6 if node.leaving and len(self.alive()) > 1:
                node.alive = False
            case 7 if node.engines:
                engine = self.random.choice(list(node.engines.values()))
                engine.phase, engine.reason = Phase.FAILED, "ended: killed"
            case _:
                self.ask()

    def ask(self) -> None:
        model = ModelId(self.random.choice(sorted(self.models)))
        stays = [fact.instance.id for fact in self.standing()]
        if len(stays) > 2:
            self.order(Withdraw(instance=self.random.choice(stays)))
        else:
            self.order(Create(wish=Wish(model=model), once=self.random.random() < 0.7))

    def standing(self) -> list[DeclaredFact]:
        """What the whole of a cluster that is not parted holds."""
        register = self.alive()[0].register
        return [fact for fact in register.declared.values() if not fact.withdrawn]

    def step(self) -> None:
        super().step()
        for node in self.alive():
            if node.standing.acting and self.now > node.started_at + REJOIN_S:
                self.check_no_dead_are_relied_on(node)

    def check_no_dead_are_relied_on(self, node: Node) -> None:
        there = {other.id for other in self.part_of(node)}
        for id, fact in node.register.declared.items():
            bad = not there.issuperset(fact.instance.nodes)
            self.dead_for[node.id, id] = self.dead_for.get((node.id, id), 0.0) + STEP_S if bad else 0.0
            assert self.dead_for[node.id, id] <= DEAD_S

    def calm(self) -> None:
        """All is well from here on."""
        self.parts = dict.fromkeys(self.nodes, 0)
        for node in list(self.nodes.values()):
            if not node.alive or node.leaving:
                self.start(node.id)

    def is_served(self, instance: Instance) -> bool:
        engines = [self.nodes[node].engines.get((instance.id, instance.epoch)) for node in instance.nodes]
        return bool(engines) and all(engine is not None and engine.phase is Phase.READY for engine in engines)

    def check_all_that_fits_is_served_once(self) -> None:
        (head,) = (node for node in self.alive() if node.standing.acting)
        situation = self.situation(head)
        for fact in self.standing():
            wish = Wish(model=fact.instance.model)
            fits = plan(wish, situation.models, tuple(situation.members.values()), {}).choices
            assert self.is_served(fact.instance) or (fact.reason and not fits and not fact.instance.stages), (
                fact
            )
        registers = [node.register.declared for node in self.alive()]
        assert all(register == registers[0] for register in registers)
        by_nobody = [fact.instance.model for fact in self.standing() if fact.instance.wish is None]
        assert len(by_nobody) == len(set(by_nobody))
        assert not {fact.instance.id for fact in self.standing()} & self.withdrawn
        current = {(fact.instance.id, fact.instance.epoch) for fact in self.standing()}
        assert {key for node in self.alive() for key in node.engines} <= current


@pytest.mark.parametrize("block", range(10))
def test_after_any_trouble_all_that_fits_is_served_once_and_withdrawn_ones_stay_away(block: int) -> None:
    for seed in range(block * 5, block * 5 + 5):
        world = Troubled(seed)
        world.run(2.0)
        for _ in range(3):
            world.ask()
        for _ in range(15):
            world.run(world.random.choice([0.5, 2.0, 8.0]))
            world.disturb()
        world.calm()
        world.run(REJOIN_S + SERVED_S)
        world.check_all_that_fits_is_served_once()
        before = world.standing()
        world.run(QUIET_S)
        assert world.standing() == before, "in a quiet cluster nothing is declared anew"


def test_a_full_restart_brings_back_what_ran_where_it_ran() -> None:
    world = Troubled(1)
    world.run(2.0)
    world.order(Create(wish=Wish(model=ModelId("large"))), Create(wish=Wish(model=ModelId("small"))))
    world.run(10.0)
    before = {fact.instance.id: fact.instance for fact in world.standing()}
    for node in world.nodes.values():
        node.alive = False
    world.step()
    for id in sorted(world.nodes):
        world.start(id)
        world.run(3.0)
    world.run(10.0)
    assert {fact.instance.id: fact.instance for fact in world.standing()} == before
    world.check_all_that_fits_is_served_once()


def test_losing_the_coordinator_moves_nothing_that_ran_elsewhere() -> None:
    world = Troubled(1)
    world.run(2.0)
    (head,) = (node for node in world.alive() if node.standing.acting)
    others = tuple(node.id for node in world.alive() if node is not head)
    world.order(Create(wish=Wish(model=ModelId("small"), nodes=others[:2])))
    world.run(5.0)
    before = world.nodes[others[0]].register.declared
    head.alive = False
    world.run(2.0)
    assert [node.standing.acting for node in world.alive()].count(True) == 1
    world.run(20.0)
    assert world.nodes[others[0]].register.declared == before


def test_what_a_leaving_node_runs_answers_all_the_while() -> None:
    world = Troubled(1)
    world.run(2.0)
    world.order(Create(wish=Wish(model=ModelId("middle"))))
    world.run(5.0)
    (placed,) = world.standing()
    leaving = world.nodes[placed.instance.nodes[0]]
    leaving.leaving = True
    while leaving.engines:
        world.step()
        (placed,) = world.standing()
        assert world.is_served(placed.instance)
    assert leaving.id not in placed.instance.nodes


def test_halves_that_meet_serve_a_model_once_that_both_were_asked_for() -> None:
    world = Troubled(1)
    first, second, *others = sorted(world.nodes)
    world.parts = {first: 0, others[0]: 0, second: 1, others[1]: 1}
    world.run(2.0)
    world.order(Create(wish=Wish(model=ModelId("small")), once=True))
    world.run(5.0)
    parted = {id for node in world.alive() for id in node.register.declared}
    assert len(parted) == 2
    world.parts = dict.fromkeys(world.nodes, 0)
    world.run(5.0)
    (kept,) = world.standing()
    assert world.is_served(kept.instance)
    assert kept.instance.epoch == 1, "it was not so much as interrupted"
