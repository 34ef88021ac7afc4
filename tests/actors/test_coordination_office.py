"""The longest-standing live member is coordinator, through joins, deaths, splits and stopped processes."""

import random
from dataclasses import dataclass, field

import pytest

from actors.coordination.office import SETTLE_S, Office, Standing
from bus.messages.base import NodeId
from bus.messages.facts import CoordinatorFact
from bus.messages.placement import Term

A, B, C = NodeId("a"), NodeId("b"), NodeId("c")
NOBODY: dict[NodeId, CoordinatorFact] = {}


def office(me: NodeId, members: dict[NodeId, float], highest: int = 0) -> Office:
    taken = Office(me, highest=Term(highest, C) if highest else Term())
    taken.saw(members, NOBODY, 0.0)
    taken.open(0.0)
    return taken


def fact(node: NodeId, number: int) -> CoordinatorFact:
    return CoordinatorFact(node=node, term=Term(number, node), since=0.0)


def settled(taken: Office, now: float) -> Standing:
    """After it has waited once more, asked as often as it wants to be."""
    standing = taken.tick(now)
    while not standing.acting and standing.next_look is not None:
        now = standing.next_look
        standing = taken.tick(now)
    return standing


def test_a_node_alone_takes_office_once_discovery_has_had_its_time() -> None:
    alone = Office(A)
    alone.saw({A: 1.0}, NOBODY, 0.0)
    assert alone.tick(10.0) == Standing(None, Term(), False, None)
    alone.open(10.0)
    standing = alone.tick(10.0)
    assert (standing.coordinator, standing.term, standing.acting) == (A, Term(1, A), True)


def test_a_node_that_has_met_others_waits_until_what_they_see_has_settled() -> None:
    left_alone = office(A, {A: 1.0, B: 2.0})
    left_alone.saw({A: 1.0}, NOBODY, 10.0)
    assert not left_alone.tick(SETTLE_S / 2).acting
    assert left_alone.tick(SETTLE_S).acting


def test_a_term_is_higher_than_any_that_was_seen_in_an_earlier_life() -> None:
    assert settled(office(A, {A: 1.0}, highest=7), 0.0).term == Term(8, A)


def test_who_joined_later_waits_for_the_longest_standing_one_and_obeys_it() -> None:
    junior = office(B, {A: 1.0, B: 2.0})
    assert junior.tick(9.0) == Standing(None, Term(), False, None)
    junior.saw({A: 1.0, B: 2.0}, {A: fact(A, 3)}, 9.0)
    assert junior.tick(9.0) == Standing(A, Term(3, A), False, None)


def test_of_two_that_started_at_once_the_lower_id_comes_first() -> None:
    assert settled(office(A, {A: 1.0, B: 1.0}), 0.0).acting
    assert not settled(office(B, {A: 1.0, B: 1.0}), 0.0).acting


def test_when_the_coordinator_is_lost_the_next_one_acts_within_a_second() -> None:
    second = office(B, {A: 1.0, B: 2.0, C: 3.0})
    second.saw({A: 1.0, B: 2.0, C: 3.0}, {A: fact(A, 3)}, 5.0)
    second.tick(5.0)
    second.saw({B: 2.0, C: 3.0}, NOBODY, 6.0)
    assert not second.tick(6.0).acting
    standing = second.tick(6.0 + SETTLE_S)
    assert standing.acting
    assert standing.term == Term(4, B)


def test_a_coordinator_steps_down_at_once_when_it_meets_a_more_senior_member() -> None:
    junior = office(B, {B: 2.0})
    assert settled(junior, 0.0).acting
    junior.saw({A: 1.0, B: 2.0}, NOBODY, 1.0)
    assert not junior.tick(1.0).acting


@pytest.mark.parametrize("number", [1, 5])
def test_a_coordinator_that_meets_a_junior_one_with_as_high_a_term_takes_a_higher_one(number: int) -> None:
    senior = office(A, {A: 1.0})
    assert settled(senior, 0.0).term == Term(1, A)
    senior.saw({A: 1.0, B: 2.0}, {B: fact(B, number)}, 1.0)
    assert not senior.tick(1.0).acting
    again = senior.tick(1.0 + SETTLE_S)
    assert (again.acting, again.term) == (True, Term(number + 1, A))
    senior.saw({A: 1.0, B: 2.0}, {B: fact(B, number)}, 2.0)
    assert senior.tick(2.0).acting, "what the other one said before is no reason to step down again"


def test_a_coordinator_goes_on_beside_a_junior_one_of_a_lower_term() -> None:
    senior = office(A, {A: 1.0}, highest=7)
    assert settled(senior, 0.0).acting
    senior.saw({A: 1.0, B: 2.0}, {B: fact(B, 3)}, 1.0)
    assert senior.tick(1.0).term == Term(8, A)


def test_a_declaration_of_a_higher_term_makes_a_coordinator_take_a_new_one() -> None:
    senior = office(A, {A: 1.0, B: 2.0})
    assert settled(senior, 0.0).acting
    senior.saw({A: 1.0, B: 2.0}, NOBODY, 1.0, highest=Term(4, B))
    assert not senior.tick(1.0).acting
    assert senior.tick(1.0 + SETTLE_S).term == Term(5, A)


def test_a_coordinator_that_was_stopped_does_not_act_on_what_it_saw_before() -> None:
    stopped = office(A, {A: 1.0, B: 2.0})
    assert settled(stopped, 0.0).acting
    woken = stopped.tick(60.0)
    assert not woken.acting
    assert stopped.tick(60.0 + SETTLE_S).term == Term(2, A)


# -- many nodes, at random -------------------------------------------------------------------------

STEP_S = 0.1
OUT = Standing(None, Term(), False, None)
DELAY_S = 0.4
"""A node learns of a change at another one within this."""


@dataclass(frozen=True)
class Seen:
    """What a node knows of another one that lives."""

    started_at: float
    fact: CoordinatorFact | None
    highest: Term
    """Of what is declared there."""


@dataclass
class Member:
    id: NodeId
    started_at: float
    office: Office
    alive: bool = True
    stopped: bool = False
    standing: Standing = OUT
    view: dict[NodeId, Seen] = field(default_factory=dict)
    coming: dict[NodeId, tuple[float, Seen | None]] = field(default_factory=dict)


class Cluster:
    """Nodes that learn of each other late, and of whom some can't see some others."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.parts: dict[NodeId, int] = {}
        self.blind: set[tuple[NodeId, NodeId]] = set()
        self.members: dict[NodeId, Member] = {}
        self.taken: set[Term] = set()
        for number in range(self.random.randint(3, 7)):
            self.join(NodeId(f"n{number}"))

    def join(self, id: NodeId) -> None:
        """Also what a node does that comes back after its process ended."""
        before = self.members.get(id)
        highest = before.office.highest if before is not None else Term()
        fresh = Office(id, highest=highest)
        self.members[id] = Member(id, self.now, fresh)
        fresh.saw({id: self.now}, NOBODY, self.now)
        fresh.open(self.now + self.random.uniform(0, 1))
        self.parts.setdefault(id, 0)

    def disturb(self) -> None:
        """One thing goes wrong, or right again."""
        someone = self.members[self.random.choice(sorted(self.members))]
        heads = [member for member in self.members.values() if member.standing.acting]
        if heads and self.random.random() < 0.5:
            someone = self.random.choice(heads)
        match self.random.randrange(6):
            case 0:
                someone.alive = False
            case 1 if not someone.alive:
                self.join(someone.id)
            case 2:
                someone.stopped = not someone.stopped
            case 3:
                halves = self.random.randint(1, 3)
                self.parts = {id: self.random.randrange(halves) for id in self.members}
            case 4:
                self.blind.add((someone.id, self.random.choice(sorted(self.members))))
            case _:
                self.blind.clear()

    def calm(self) -> None:
        """Nothing is stopped and nobody is blind any more; parts stay parted."""
        self.blind.clear()
        for member in self.members.values():
            member.stopped = False

    def step(self) -> None:
        self.now += STEP_S
        for member in self.running():
            if self.learn(member):
                self.show(member)
            before = member.office.highest
            was, member.standing = member.standing, member.office.tick(self.now)
            if member.standing.acting and (not was.acting or member.standing.term != was.term):
                assert member.standing.term > before
                assert member.standing.term not in self.taken
                self.taken.add(member.standing.term)
        terms = [member.standing.term for member in self.running() if member.standing.acting]
        assert len(terms) == len(set(terms))

    def show(self, member: Member) -> None:
        lives = {id: seen.started_at for id, seen in member.view.items()}
        heads = {id: seen.fact for id, seen in member.view.items() if seen.fact is not None}
        highest = max((seen.highest for seen in member.view.values()), default=Term())
        member.office.saw({**lives, member.id: member.started_at}, heads, self.now, highest)

    def running(self) -> list[Member]:
        return [member for member in self.members.values() if member.alive and not member.stopped]

    def learn(self, member: Member) -> bool:
        """What is true of each other node is seen some moments later."""
        changed = False
        for other in self.members.values():
            if other.id == member.id:
                continue
            truth = self.truth(member, other)
            due, coming = member.coming.get(other.id, (0.0, member.view.get(other.id)))
            if truth != coming:
                due, coming = self.now + self.random.uniform(0, DELAY_S), truth
                member.coming[other.id] = due, coming
            if self.now >= due and member.view.get(other.id) != coming:
                changed = True
                if coming is None:
                    del member.view[other.id]
                else:
                    member.view[other.id] = coming
        return changed

    def truth(self, member: Member, other: Member) -> Seen | None:
        apart = self.parts[member.id] != self.parts[other.id] or (member.id, other.id) in self.blind
        if apart or not other.alive or other.stopped:
            return None
        standing = other.standing
        said = CoordinatorFact(node=other.id, term=standing.term, since=0.0) if standing.acting else None
        return Seen(other.started_at, said, other.office.highest)

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP_S)):
            self.step()

    def components(self) -> list[list[Member]]:
        parts = {self.parts[member.id] for member in self.running()}
        return [[member for member in self.running() if self.parts[member.id] == part] for part in parts]

    def check_one_coordinator_each(self) -> None:
        for component in self.components():
            first = min(component, key=lambda member: (member.started_at, member.id))
            assert [member.id for member in component if member.standing.acting] == [first.id]
            assert {member.standing.coordinator for member in component} == {first.id}
            assert {member.standing.term for member in component} == {first.standing.term}
            assert first.standing.term == max(member.office.highest for member in component)


@pytest.mark.parametrize("block", range(10))
def test_each_part_of_a_cluster_comes_to_have_one_coordinator_and_terms_only_grow(block: int) -> None:
    for seed in range(block * 50, block * 50 + 50):
        cluster = Cluster(seed)
        for _ in range(12):
            cluster.run(cluster.random.uniform(0.1, 1.5))
            cluster.disturb()
        cluster.calm()
        cluster.run(3.0)
        cluster.check_one_coordinator_each()
        cluster.parts = dict.fromkeys(cluster.members, 0)
        cluster.run(3.0)
        cluster.check_one_coordinator_each()
        for member in cluster.running():
            if member.standing.acting and len(cluster.running()) > 1:
                member.alive = False
        cluster.run(SETTLE_S + DELAY_S + 2 * STEP_S)
        assert [member.standing.acting for member in cluster.running()].count(True) == min(
            1, len(cluster.running())
        )
