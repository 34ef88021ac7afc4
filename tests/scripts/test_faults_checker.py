"""The checker of the fault runs, on histories made by hand: one that holds, and one broken for each rule."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from scripts.fault_runs import history
from scripts.fault_runs.checker import Rule, check, difference
from scripts.fault_runs.history import (
    Accepted,
    Action,
    AnyEvent,
    Began,
    Closed,
    CoordinatorSeen,
    DeclaredSeen,
    Failed,
    Finished,
    GaveUp,
    Healed,
    InstanceSeen,
    Leaving,
    MemberSeen,
    Mended,
    Piece,
    RankSeen,
    Refused,
    Settled,
    Struck,
    Submitted,
)
from scripts.fault_runs.measures import detections, pauses

NODES = ("n0", "n1", "n2")


def submitted(request: str = "r0", node: str = "n0", at_s: float = 1.0, probe: bool = False) -> Submitted:
    return Submitted(
        at_s=at_s,
        request=request,
        node=node,
        prompt="Hi",
        max_tokens=3,
        expected="one two three",
        probe=probe,
    )


def opened(request: str = "r0", at_s: float = 1.1) -> Accepted:
    return Accepted(at_s=at_s, request=request, id=f"cmpl-{request}")


def piece(text: str, at_s: float, request: str = "r0") -> Piece:
    return Piece(at_s=at_s, request=request, text=text)


def finished(at_s: float = 6.0, request: str = "r0") -> Finished:
    return Finished(at_s=at_s, request=request, reason="length")


def closed(at_s: float = 6.1, request: str = "r0", tokens: int | None = 3, error: str = "") -> Closed:
    return Closed(at_s=at_s, request=request, tokens=tokens, error=error)


def struck(action: Action = Action.KILL_NODE, node: str = "n2", at_s: float = 2.0) -> Struck:
    return Struck(at_s=at_s, action=action, node=node, why="last", instance="i", epoch=1, ranks=(1,))


def instance(
    at_s: float, phase: str = "ready", epoch: int = 1, held: int = 0, kv_bytes: int = 0, by: str = "n0"
) -> InstanceSeen:
    return InstanceSeen(
        at_s=at_s, by=by, instance="i", model="m", epoch=epoch, phase=phase, held=held, kv_bytes=kv_bytes
    )


def declared(at_s: float, epoch: int, holder: str = "n0") -> DeclaredSeen:
    return DeclaredSeen(at_s=at_s, by="n0", holder=holder, instance="i", epoch=epoch, term=epoch)


def settled(at_s: float = 8.0, reason: str = "") -> Settled:
    return Settled(at_s=at_s, reason=reason, live=("n0", "n1"))


def began() -> Began:
    return Began(at_s=0.0, seed=1, number=0, scenario="kill-node last", nodes=NODES, instance="i")


ANSWER: tuple[AnyEvent, ...] = (
    submitted(),
    opened(),
    piece("one ", 1.5),
    piece("two ", 5.0),
    piece("three", 6.0),
    finished(),
    closed(),
)
AROUND: tuple[AnyEvent, ...] = (
    began(),
    CoordinatorSeen(at_s=0.0, by="n0", node="n0", term=1, term_node="n0"),
    instance(0.0),
    instance(1.2, held=1, kv_bytes=9),
    struck(),
    MemberSeen(at_s=2.5, by="n0", node="n2", here=False),
    MemberSeen(at_s=2.75, by="n1", node="n2", here=False),
    instance(3.0, "loading", epoch=2, held=1),
    InstanceSeen(at_s=3.5, by="n0", instance="i", epoch=1, here=False),
    instance(4.0, "ready", epoch=2, held=1, kv_bytes=9),
    instance(6.5, "ready", epoch=2),
    settled(),
    Mended(at_s=9.0),
)


def run(*more: AnyEvent, without: Sequence[type[AnyEvent]] = ()) -> list[AnyEvent]:
    """The run that holds, with more or fewer events, in order of time."""
    kept = [event for event in (*AROUND, *ANSWER) if not isinstance(event, tuple(without))]
    return sorted([*kept, *more], key=lambda event: event.at_s)


def rules(events: Sequence[AnyEvent]) -> list[Rule]:
    return [violation.rule for violation in check(events)]


def test_a_stream_that_paused_and_went_on_breaks_nothing() -> None:
    assert check(run()) == []


# -- requests --------------------------------------------------------------------------------------


def test_a_request_without_an_end_is_found() -> None:
    events = run(closed(error="nothing ended it"), without=(Finished, Closed))
    assert rules(events) == [Rule.ONE_END]
    assert "r0 on n0 has no terminal event: nothing ended it" in check(events)[0].what


def test_a_request_that_ends_twice_is_found() -> None:
    assert rules(run(finished(6.05))) == [Rule.ONE_END]


def test_text_after_the_end_is_found() -> None:
    assert Rule.ONE_END in rules(run(piece("!", 6.05)))


def test_a_request_that_was_never_answered_is_found() -> None:
    assert rules(run(submitted("r1"), closed(request="r1", tokens=None))) == [Rule.ONE_END]


@pytest.mark.parametrize("action", [Action.KILL_NODE, Action.STOP_NODE])
def test_a_request_may_end_with_the_node_that_took_it(action: Action) -> None:
    lost = (submitted("r1", "n2"), opened("r1"), piece("one ", 1.5, "r1"), closed(2.1, "r1", None, "reset"))
    assert rules(run(*lost, struck(action))) == []


def test_a_request_on_a_node_that_went_on_must_end() -> None:
    lost = (submitted("r1", "n2"), opened("r1"), closed(7.0, "r1", None, "reset"))
    again = Healed(at_s=5.0, action=Action.STOP_NODE, node="n2")
    assert rules(run(*lost, struck(Action.STOP_NODE), again, without=(Struck,))) == [Rule.ONE_END]


def test_a_request_that_came_after_its_node_did_must_end() -> None:
    again = Healed(at_s=3.0, action=Action.KILL_NODE, node="n2")
    late = (submitted("r1", "n2", at_s=4.0), opened("r1", 4.1), closed(5.0, "r1", None, "it just ends"))
    assert rules(run(again, *late)) == [Rule.ONE_END]


def test_another_answer_is_found() -> None:
    events = run(piece("two ", 5.1))
    assert rules(events) == [Rule.SAME_TEXT]
    assert "from character 9 of 13" in check(events)[0].what


def test_a_missing_token_is_found() -> None:
    events = run()
    events.remove(piece("two ", 5.0))
    assert rules(events) == [Rule.SAME_TEXT]


def test_a_wrong_count_of_tokens_is_found() -> None:
    assert rules(run(closed(tokens=4), without=(Closed,))) == [Rule.SAME_TEXT]


@pytest.mark.parametrize("how", list(Leaving))
def test_what_came_before_a_cancel_must_be_how_the_answer_begins(how: Leaving) -> None:
    gave_up = GaveUp(at_s=1.6, request="r1", how=how)
    start = (submitted("r1"), opened("r1"), gave_up, closed(1.8, "r1", None))
    end: tuple[AnyEvent, ...] = ()
    if how is Leaving.CANCEL:
        end = (Failed(at_s=1.7, request="r1", error="cancelled"),)

    assert rules(run(*start, *end, piece("one t", 1.5, "r1"))) == []
    assert rules(run(*start, *end, piece("one one", 1.5, "r1"))) == [Rule.SAME_TEXT]


def test_a_cancelled_request_must_be_told_its_end() -> None:
    gave_up = GaveUp(at_s=1.6, request="r1", how=Leaving.CANCEL)
    assert rules(run(submitted("r1"), opened("r1"), gave_up, closed(1.8, "r1", None))) == [Rule.ONE_END]


def test_an_accepted_request_that_fails_is_lost() -> None:
    failed = Failed(at_s=6.0, request="r1", error="engine lost")
    assert rules(run(submitted("r1"), opened("r1"), failed, closed(request="r1"))) == [Rule.NOT_LOST]


def test_a_refused_request_is_not_lost() -> None:
    refused = Refused(at_s=2.0, request="r1", status=503, error="busy")
    assert rules(run(submitted("r1"), refused, closed(2.0, "r1", None, "HTTP 503"))) == []


# -- the instance ----------------------------------------------------------------------------------


def test_what_is_held_after_the_last_request_is_found() -> None:
    events = run(instance(6.6, epoch=2, held=1, kv_bytes=7))
    assert rules(events) == [Rule.FREED]
    assert "n0 sees 1 sequences and 7 bytes" in check(events)[0].what


def test_cache_that_a_rank_keeps_is_found() -> None:
    rank = RankSeen(at_s=6.6, by="n1", instance="i", epoch=2, rank=1, phase="ready", kv_bytes=7)
    assert rules(run(rank)) == [Rule.FREED]


def test_what_a_request_at_the_end_holds_is_not_left_over() -> None:
    probe = (submitted("p", at_s=8.1, probe=True), opened("p", 8.2), instance(8.3, epoch=2, held=1))
    end = (piece("one two three", 8.4, "p"), finished(8.5, "p"), closed(8.6, "p"))
    assert rules(run(*probe, *end)) == []


def test_an_epoch_that_goes_back_is_found() -> None:
    assert rules(run(declared(4.0, 2), declared(5.0, 1))) == [Rule.EPOCHS_GROW]
    assert rules(run(declared(4.0, 2), declared(5.0, 1, holder="n1"))) == []


def test_an_epoch_may_begin_anew_with_a_node() -> None:
    again = Healed(at_s=5.0, action=Action.KILL_NODE, node="n2")
    assert rules(run(declared(4.0, 2, holder="n2"), again, declared(5.1, 1, holder="n2"))) == []


def test_two_ready_epochs_in_the_end_are_found() -> None:
    assert rules(run(instance(7.0, epoch=1, by="n1"))) == [Rule.ONE_READY_EPOCH]


def test_a_rank_that_loads_without_end_is_found() -> None:
    events = run(
        *(
            RankSeen(at_s=at_s, by="n0", instance="i", epoch=2, rank=1, phase="loading", progress=progress)
            for at_s, progress in ((3.0, 0.1), (20.0, 0.2), (45.0, 0.2))
        ),
        Mended(at_s=55.0),
        without=(Mended,),
    )
    assert rules(events) == [Rule.NOT_STUCK]
    assert "loading for 35 s" in check(events)[0].what


def test_what_a_node_saw_before_it_died_is_not_stuck() -> None:
    last = RankSeen(at_s=1.0, by="n2", instance="i", epoch=1, rank=1, phase="loading")
    assert rules(run(last, Mended(at_s=55.0), without=(Mended,))) == []


def test_what_a_node_saw_before_it_hung_is_not_stuck() -> None:
    last = RankSeen(at_s=1.0, by="n1", instance="i", epoch=1, rank=1, phase="loading")
    hung = Struck(at_s=1.5, action=Action.STOP_NODE, node="n1", why="", instance="i", epoch=1, ranks=())
    assert Rule.NOT_STUCK not in rules(run(last, hung, Mended(at_s=55.0), without=(Mended,)))


# -- the cluster -----------------------------------------------------------------------------------


def test_two_coordinators_of_one_term_are_found() -> None:
    other = CoordinatorSeen(at_s=3.0, by="n1", node="n1", term=1, term_node="n0")
    gone = CoordinatorSeen(at_s=3.1, by="n1", node="n1", term=1, term_node="n0", here=False)
    assert rules(run(other, gone)) == [Rule.ONE_COORDINATOR]


def test_two_coordinators_in_the_end_are_found() -> None:
    other = CoordinatorSeen(at_s=3.0, by="n1", node="n1", term=2, term_node="n1")
    assert rules(run(other)) == [Rule.ONE_COORDINATOR]


def test_an_epoch_declared_in_two_ways_is_found() -> None:
    acts = (
        DeclaredSeen(at_s=3.0, by=by, instance="i", epoch=2, term=1, term_node="n0", ranks=ranks)
        for by, ranks in (("n0", ("n0", "n1")), ("n1", ("n1", "n0")))
    )
    assert rules(run(*acts)) == [Rule.ONE_COORDINATOR]


def test_a_cluster_that_does_not_come_to_rest_is_found() -> None:
    assert rules(run(settled(reason="n1 sees nobody"), without=(Settled,))) == [Rule.CONVERGED]
    assert rules(run(Mended(at_s=9.0, reason="n2 is not back"), without=(Mended,))) == [Rule.CONVERGED]
    assert rules(run(without=(Settled,))) == [Rule.CONVERGED]


def test_a_node_that_does_not_answer_in_the_end_is_found() -> None:
    refused = Refused(at_s=8.2, request="p", status=503, error="busy")
    assert rules(run(submitted("p", at_s=8.1, probe=True), refused, closed(8.2, "p"))) == [Rule.CONVERGED]


# -- measures --------------------------------------------------------------------------------------


def test_a_pause_is_the_longest_gap_from_the_fault_on() -> None:
    assert pauses(run()) == [3.5]


def test_a_fault_that_hit_no_rank_makes_no_pause() -> None:
    idle = Struck(at_s=2.0, action=Action.KILL_NODE, node="n2", why="", instance="i", epoch=1, ranks=())
    assert pauses(run(idle, without=(Struck,))) == []


def test_each_node_that_lives_detects_a_fault_at_its_own_time() -> None:
    assert detections(run()) == [0.5, 0.75]


def test_an_engines_end_is_detected_by_its_rank_or_by_the_next_epoch() -> None:
    broken = RankSeen(at_s=2.25, by="n1", instance="i", epoch=1, rank=1, phase="failed")
    events = run(struck(Action.KILL_ENGINE), broken, without=(Struck,))
    assert detections(events) == [0.25, 1.0]


def test_the_difference_of_two_texts_is_shown() -> None:
    assert difference("abcd", "abxd").startswith("from character 2 of 4 on 'xd' instead of 'cd'")
    assert difference("abcd", "ab").startswith("from character 2 of 4 on '' instead of 'cd'")


def test_a_history_is_the_same_when_it_is_read_again(tmp_path: Path) -> None:
    events = run()
    history.write(events, tmp_path / "history.jsonl")
    assert history.read(tmp_path / "history.jsonl") == events
