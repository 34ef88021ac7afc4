"""What a coordinator decides when it is asked for models, when nodes go and when epochs break."""

from dataclasses import replace

import msgspec
import pytest

from actors.coordination.draft import Draft
from actors.coordination.loosening import wishes_for
from actors.coordination.losses import FREED_S, LINGER_S, STEADY_S, WAIT_LOOK_S
from actors.coordination.sight import Sight, promised
from actors.coordination.situation import REJOIN_S
from actors.retry import ENGINE_RESTARTS
from bus.messages.base import InstanceId, ModelId, NodeId
from bus.messages.engine import Phase
from bus.messages.placement import Create, Stage, Wish, Withdraw
from tests.actors.coordination_desk import (
    LONG,
    START,
    TERM,
    Desk,
    create,
    desk_of,
    ids,
    rank_fact,
    whole_fact,
)
from tests.actors.coordination_world import model_fact


@pytest.fixture
def desk() -> Desk:
    return desk_of("abcd")


# -- what is asked for -----------------------------------------------------------------------------


def test_a_wish_is_placed_in_its_first_epoch_and_says_where(desk: Desk) -> None:
    verdict = desk.decide(create())
    (fact,) = verdict.declare
    assert (fact.instance.epoch, fact.term, fact.instance.nodes) == (1, TERM, ("a", "b"))
    assert fact.reason == "placed on name-a, name-b: it fits"
    assert verdict.answers[0].instances == (fact.instance,)
    assert desk.decide().declare == (), "deciding again changes nothing"


def test_replicas_each_have_their_own_memory(desk: Desk) -> None:
    placed = desk.decide(create(replicas=2)).answers[0].instances
    assert [instance.nodes for instance in placed] == [("a", "b"), ("c", "d")]


def test_instances_of_a_model_are_told_apart_by_an_ordinal_that_is_used_again(desk: Desk) -> None:
    first, second = desk.decide(create(replicas=2)).answers[0].instances
    (other,) = desk.decide(create("small")).answers[0].instances
    assert (first.ordinal, second.ordinal, other.ordinal) == (0, 1, 0)
    desk.decide(Withdraw(instance=first.id))
    (third,) = desk.decide(create()).answers[0].instances
    assert third.ordinal == 0, "what the first has left behind is found again"


def test_what_is_wanted_once_is_not_placed_again_while_it_is_there(desk: Desk) -> None:
    first = desk.decide(create(once=True), create(once=True))
    assert ids(first) == ["i1"]
    assert first.answers[0] == first.answers[1]
    assert desk.instance().wish is None
    desk.decide(Withdraw(instance=InstanceId("i1")))
    assert ids(desk.decide(create(once=True))) == ["i2"]


def test_what_is_withdrawn_is_over_in_a_higher_epoch_and_stays_so(desk: Desk) -> None:
    desk.decide(create())
    (fact,) = desk.decide(Withdraw(instance=InstanceId("i1"))).declare
    assert (fact.withdrawn, fact.instance.epoch, fact.instance.stages) == (True, 2, ())
    again = desk.decide(Withdraw(instance=InstanceId("i1")), Withdraw(instance=InstanceId("nobody")))
    assert again.declare == ()
    assert [answer.instances for answer in again.answers] == [(), ()]


def test_without_room_it_waits_with_the_figures_until_there_is_some(desk: Desk) -> None:
    desk.nodes(a=80)
    verdict = desk.decide(create())
    assert desk.fact().reason == "waits for a place: memory: 180 needed, 80 free"
    assert (desk.instance().epoch, desk.instance().stages) == (1, ())
    assert verdict.next_look == START + WAIT_LOOK_S
    assert desk.wait(WAIT_LOOK_S / 2).declare == ()
    desk.nodes(a=100, b=100)
    desk.wait(0.1)
    assert (desk.instance().epoch, desk.instance().nodes) == (2, ("a", "b")), "a node that joins is news"


def test_what_waits_is_placed_when_memory_comes_free(desk: Desk) -> None:
    desk.nodes(a=10, b=100)
    desk.decide(create())
    desk.nodes(a=100, b=100)
    desk.wait(WAIT_LOOK_S)
    assert desk.instance().nodes == ("a", "b")


def test_what_never_had_a_place_keeps_to_its_wish(desk: Desk) -> None:
    desk.nodes(a=100, b=100)
    desk.decide(create("small", nodes=["d"]))
    assert desk.instance().stages == ()
    desk.nodes(a=100, d=100)
    desk.wait(0.1)
    assert desk.instance().nodes == ("d",)


def test_what_runs_is_not_moved_because_a_node_joins(desk: Desk) -> None:
    desk.nodes(a=60, b=60, c=60, d=60)
    desk.decide(create())
    desk.runs(desk.instance())
    desk.nodes(a=60, b=60, c=60, d=60, e=1000)
    assert desk.wait(LONG).declare == ()


# -- losses ----------------------------------------------------------------------------------------


def test_when_a_node_is_gone_the_next_epoch_is_on_what_is_left(desk: Desk) -> None:
    desk.decide(create())
    desk.runs(desk.instance())
    desk.nodes(a=10, c=100, d=100)
    (fact,) = desk.decide().declare
    assert (fact.instance.epoch, fact.instance.nodes) == (2, ("a", "c")), "what it holds on a comes free"
    assert fact.reason == "epoch 2: name-b is gone; placed on name-a, name-c: it fits"


def test_a_person_s_nodes_and_stages_are_given_up_rather_than_the_model(desk: Desk) -> None:
    desk.decide(create("small", nodes=["b", "c", "d", "a"], stages=4))
    desk.runs(desk.instance())
    desk.nodes(a=100, c=100)
    desk.decide()
    assert set(desk.instance().nodes) <= {"a", "c"}
    assert desk.instance().wish == create("small", nodes=["b", "c", "d", "a"], stages=4).wish


def test_what_has_no_place_left_waits_once_memory_had_time_to_come_free(desk: Desk) -> None:
    desk.decide(create())
    desk.nodes(a=100)
    assert desk.decide().declare == ()
    desk.wait(FREED_S)
    assert (desk.instance().epoch, desk.instance().stages) == (2, ())
    assert "name-b is gone; waits for a place: memory" in desk.fact().reason


def test_a_broken_epoch_is_followed_by_another_on_the_same_nodes_after_the_wait(desk: Desk) -> None:
    desk.decide(create())
    before = desk.instance()
    desk.fails(1)
    verdict = desk.decide()
    assert verdict.declare == ()
    assert verdict.next_look is not None
    desk.wait(verdict.next_look - desk.now)
    assert desk.instance() == msgspec.structs.replace(before, epoch=2)
    assert desk.fact().reason == "epoch 2: rank 1 on name-b failed: ended: killed"


def test_ranks_that_are_still_there_are_waited_for_before_the_next_epoch(desk: Desk) -> None:
    desk.decide(create())
    desk.fails(0, lingering=[1])
    desk.decide()
    assert desk.wait(LINGER_S - 0.1).declare == (), "their node may be gone as well"
    desk.wait(0.1)
    assert desk.instance().epoch == 2


def fail_again_and_again(desk: Desk) -> int:
    """Until nothing is declared any more; how many epochs failed."""
    for failures in range(1, 20):
        desk.fails(1)
        desk.decide()
        desk.wait(LONG)
        if desk.instance().epoch == failures:
            return failures
    raise AssertionError("it is tried for ever")


def test_it_is_given_up_after_as_many_tries_as_the_policy_allows(desk: Desk) -> None:
    desk.decide(create())
    assert fail_again_and_again(desk) == ENGINE_RESTARTS.attempts + 1
    assert desk.fact().given_up
    assert desk.fact().reason.startswith("failed 6 times in a row, last: rank 1 on name-b failed")
    assert desk.wait(LONG).declare == ()


def test_what_was_given_up_serves_again_when_it_runs_after_a_restart(desk: Desk) -> None:
    desk.decide(create())
    fail_again_and_again(desk)
    before = desk.instance()
    desk.runs(before, phase=Phase.LOADING)
    desk.state = replace(desk.state, history={})
    (fact,) = desk.decide().declare
    assert (fact.instance, fact.given_up) == (before, False)
    assert fact.reason == "tried again after a restart; placed on name-a, name-b"
    assert desk.decide().declare == ()


@pytest.mark.parametrize("news", ["a node", "a file"])
def test_what_was_given_up_is_tried_again_when_nodes_or_files_change(desk: Desk, news: str) -> None:
    desk.decide(create())
    epoch = fail_again_and_again(desk)
    if news == "a node":
        desk.nodes(a=100, b=100, c=100, d=100, e=100)
    else:
        changed = model_fact("b", "large", 180, mark="new")
        desk.state = replace(desk.state, models=(*desk.state.models, changed))
    desk.wait(1.0)
    assert desk.instance().epoch == epoch + 1
    assert not desk.fact().given_up


def test_failures_are_forgotten_once_it_was_ready_for_a_minute(desk: Desk) -> None:
    desk.decide(create())
    for _ in range(3 * ENGINE_RESTARTS.attempts):
        epoch = desk.instance().epoch
        desk.fails(1)
        desk.decide()
        desk.wait(LONG)
        assert desk.instance().epoch == epoch + 1
        desk.runs(desk.instance())
        desk.decide()
        desk.wait(STEADY_S)
    assert desk.state.history == {}


def test_where_it_fails_for_good_it_is_not_tried_again_while_there_are_other_nodes(desk: Desk) -> None:
    desk.decide(create())
    desk.fails(1, permanent=True)
    desk.decide()
    assert desk.instance().epoch == 2
    assert "b" not in desk.instance().nodes


def test_where_it_fails_for_good_and_nothing_else_is_left_it_is_given_up_with_the_reason(desk: Desk) -> None:
    desk.nodes(a=100, b=100)
    desk.decide(create())
    desk.fails(1, permanent=True)
    desk.decide()
    desk.wait(FREED_S)
    assert desk.instance().epoch == 1
    reason = "rank 1 on name-b failed: ended: killed; and there is no other place: memory"
    assert desk.fact().given_up
    assert desk.fact().reason.startswith(reason)
    assert desk.wait(LONG).declare == ()


def test_a_node_where_it_failed_for_good_is_tried_again_when_nothing_else_is_left(desk: Desk) -> None:
    desk.nodes(a=100, b=100, c=100)
    desk.decide(create())
    desk.fails(1, permanent=True)
    desk.decide()
    assert desk.instance().nodes == ("a", "c")
    desk.nodes(a=100, b=100)
    desk.decide()
    desk.wait(FREED_S)
    desk.wait(WAIT_LOOK_S)
    assert desk.instance().nodes == ("a", "b")


def test_a_failed_engine_that_was_alone_had_its_tries_on_its_node(desk: Desk) -> None:
    desk.decide(create("small"))
    failed = whole_fact(desk.instance(), Phase.FAILED)
    desk.state = replace(desk.state, instances=(failed,))
    desk.decide()
    assert desk.instance().epoch == 2
    assert desk.instance().nodes == ("b",)


def test_after_a_restart_of_all_nodes_those_that_are_not_back_are_waited_for(desk: Desk) -> None:
    desk.decide(create())
    desk.state = replace(desk.state, met={}, started=START)
    desk.nodes(a=100, c=100)
    assert desk.decide().next_look == START + REJOIN_S
    assert desk.fact().reason == "waits for b to come back after a restart"
    assert desk.instance().epoch == 1
    there = replace(desk, now=START + 5.0, ids=[])
    there.nodes(a=100, b=100, c=100)
    there.decide()
    assert there.instance().epoch == 1
    assert there.fact().reason == "its nodes came back after a restart; placed on name-a, name-b"
    desk.wait(REJOIN_S)
    assert desk.instance().nodes == ("a", "c")


def test_a_fact_about_the_same_epoch_on_other_nodes_is_not_about_this_placement(desk: Desk) -> None:
    desk.decide(create())
    other = msgspec.structs.replace(
        desk.instance(), stages=(Stage(0, 4, (NodeId("c"),), 90), Stage(4, 8, (NodeId("d"),), 90))
    )
    desk.state = replace(desk.state, ranks=(rank_fact(other, 0, Phase.FAILED),))
    assert desk.wait(LONG).declare == ()


def test_what_is_declared_but_not_loaded_is_promised_and_nothing_else(desk: Desk) -> None:
    desk.decide(create())
    assert promised(desk.state.declared, Sight((), ())) == {"a": 90, "b": 90}
    half = msgspec.structs.replace(rank_fact(desk.instance(), 0, Phase.LOADING), active_bytes=50)
    ready = rank_fact(desk.instance(), 1, Phase.READY)
    assert promised(desk.state.declared, Sight((half, ready), ())) == {"a": 40, "b": 0}


def test_what_is_kept_of_earlier_prompts_is_free_for_what_is_placed(desk: Desk) -> None:
    desk.decide(create())
    ready = rank_fact(desk.instance(), 1, Phase.READY)
    keeps = msgspec.structs.replace(ready, active_bytes=80, prefix_bytes=30)
    assert promised(desk.state.declared, Sight((keeps,), ())) == {"a": 90, "b": -30}
    draft = Draft(replace(desk.state, ranks=(keeps,)), desk.now)
    assert draft.ledger_without(desk.fact(), beside=False) == {"a": 0, "b": -80}
    assert draft.ledger_without(desk.fact(), beside=True) == {"a": 90, "b": -30}


def test_what_is_wished_of_the_engine_is_kept_from_epoch_to_epoch(desk: Desk) -> None:
    wish = Wish(ModelId("large"), kv_bits=8, kv_bytes=10**9, draft=ModelId("small"), speculate=False)
    desk.decide(Create(wish=wish))
    desk.runs(desk.instance())
    desk.nodes(b=100, c=100)
    desk.decide()
    moved = desk.instance()
    assert (moved.epoch, "a" in moved.nodes) == (2, False)
    assert (moved.kv_bits, moved.kv_bytes) == (8, 10**9)
    assert (moved.draft, moved.speculate) == (ModelId("small"), False)
    assert wishes_for(moved, ())[-1] == msgspec.structs.replace(wish, draft=None), "it can do without that"
    nobodys = msgspec.structs.replace(moved, wish=None)
    assert wishes_for(nobodys, ())[0] == wish
