"""What a coordinator does about nodes that are about to stop, and about halves of a cluster that have met."""

from dataclasses import replace

import msgspec
import pytest

from bus.messages.base import InstanceId
from bus.messages.engine import Phase
from bus.messages.facts import DeclaredFact
from bus.messages.placement import Instance, Withdraw
from tests.actors.coordination_desk import TERM, Desk, create, desk_of, ids, rank_fact, whole_fact


@pytest.fixture
def desk() -> Desk:
    return desk_of("abcd")


# -- leaving ---------------------------------------------------------------------------------------


def successor_of(desk: Desk) -> Instance:
    successor = desk.fact().successor
    assert successor is not None
    return successor


@pytest.fixture
def moving(desk: Desk) -> Desk:
    """A large model that is ready on a and b. Node b is about to stop; a and c prepare to take over."""
    desk.decide(create())
    desk.runs(desk.instance())
    desk.nodes(a=100, b=10, c=100, d=100)
    desk.leaves("b")
    desk.decide()
    return desk


def test_what_a_leaving_node_runs_is_prepared_elsewhere_beside_it(moving: Desk) -> None:
    assert moving.instance().nodes == ("a", "b"), "it goes on as it is for now"
    successor = successor_of(moving)
    assert (successor.epoch, successor.nodes) == (2, ("a", "c"))
    assert moving.fact().reason == "name-b leaves; it moves to name-a, name-c"
    assert moving.decide().declare == ()


def test_the_successor_takes_over_when_it_is_ready(moving: Desk) -> None:
    old, new = moving.instance(), successor_of(moving)
    moving.runs(old, new)
    moving.decide()
    assert moving.instance() == new
    assert moving.fact().successor is None
    assert moving.fact().reason == "epoch 2: moved, since name-b leaves; placed on name-a, name-c"


def test_the_successor_takes_over_at_once_when_the_leaving_node_is_gone(moving: Desk) -> None:
    new = successor_of(moving)
    moving.nodes(a=100, c=100, d=100)
    moving.decide()
    assert moving.instance() == new


def test_the_successor_takes_over_at_once_when_the_old_epoch_breaks(moving: Desk) -> None:
    new = successor_of(moving)
    moving.fails(0, lingering=[1])
    moving.decide()
    assert moving.instance() == new


def test_a_successor_whose_node_goes_is_followed_by_another_of_a_higher_epoch(moving: Desk) -> None:
    moving.nodes(a=100, b=10, d=100)
    moving.leaves("b")
    moving.decide()
    assert (successor_of(moving).epoch, successor_of(moving).nodes) == (3, ("a", "d"))
    assert moving.instance().epoch == 1


def test_a_successor_that_fails_is_tried_again_after_the_wait(moving: Desk) -> None:
    failed = rank_fact(successor_of(moving), 1, Phase.FAILED)
    moving.state = replace(moving.state, ranks=(*moving.state.ranks, failed))
    verdict = moving.decide()
    assert verdict.declare == ()
    assert verdict.next_look is not None
    moving.wait(verdict.next_look - moving.now)
    assert successor_of(moving).epoch == 3


def test_a_withdrawal_ends_the_successor_too(moving: Desk) -> None:
    moving.decide(Withdraw(instance=InstanceId("i1")))
    assert (moving.instance().epoch, moving.fact().successor) == (3, None)


def test_what_does_not_fit_beside_itself_moves_at_once(desk: Desk) -> None:
    desk.nodes(a=100, b=100)
    desk.decide(create())
    desk.runs(desk.instance())
    desk.nodes(a=10, b=10, c=100)
    desk.leaves("b")
    desk.decide()
    assert (desk.instance().epoch, desk.instance().nodes) == (2, ("a", "c"))
    assert desk.fact().successor is None


def test_what_fits_nowhere_else_is_left_where_it_is_with_the_reason(desk: Desk) -> None:
    desk.nodes(a=100, b=100)
    desk.decide(create())
    desk.runs(desk.instance())
    desk.nodes(a=10, b=10)
    desk.leaves("b")
    desk.decide()
    assert desk.instance().epoch == 1
    assert desk.fact().reason == "name-b leaves, and it can't move: memory: 180 needed, 100 free"


def test_nothing_new_is_placed_on_a_node_that_leaves(desk: Desk) -> None:
    desk.leaves("a")
    desk.decide(create())
    assert "a" not in desk.instance().nodes


# -- two halves have met ---------------------------------------------------------------------------


def met(desk: Desk, *made_by_hand: str) -> tuple[Instance, Instance]:
    """The same model, placed by each half: i1 on a and i2 on b."""
    desk.decide(create("small"), create("small"))
    both: list[Instance] = []
    for id in ("i1", "i2"):
        wish = desk.instance(id).wish if id in made_by_hand else None
        both.append(msgspec.structs.replace(desk.instance(id), wish=wish))
    declared = {one.id: DeclaredFact(instance=one, term=TERM) for one in both}
    desk.state = replace(desk.state, declared=declared)
    return both[0], both[1]


def test_of_two_that_serve_the_same_model_the_one_that_answers_is_kept(desk: Desk) -> None:
    first, second = met(desk)
    desk.state = replace(
        desk.state, instances=(whole_fact(first, Phase.LOADING), whole_fact(second, Phase.READY))
    )
    assert ids(desk.decide()) == [first.id]
    assert desk.fact("i1").withdrawn
    assert desk.fact("i1").reason == "instance i2 serves small as well, and one is enough"


def test_of_two_that_answer_the_busier_one_is_kept(desk: Desk) -> None:
    first, second = met(desk)
    busier = whole_fact(second, Phase.READY, running=3)
    desk.state = replace(desk.state, instances=(whole_fact(first, Phase.READY, running=1), busier))
    assert ids(desk.decide()) == [first.id]


def test_of_two_that_are_alike_the_lower_id_is_kept(desk: Desk) -> None:
    first, second = met(desk)
    desk.runs(first, second)
    assert ids(desk.decide()) == [second.id]


def test_what_people_made_stays_twice(desk: Desk) -> None:
    first, second = met(desk, "i1", "i2")
    desk.runs(first, second)
    assert desk.decide().declare == ()
