"""The fault runs' parts that need no cluster: what is drawn, seen, asked, waited for and summed up."""

import asyncio
import json
import math
from itertools import pairwise

import msgspec
import pytest

from scripts.fault_runs.__main__ import choose, main
from scripts.fault_runs.checker import Rule, Violation
from scripts.fault_runs.cluster import ClusterBroken, together
from scripts.fault_runs.history import (
    Accepted,
    Action,
    AnyEvent,
    CoordinatorSeen,
    DeclaredSeen,
    GaveUp,
    InstanceSeen,
    Leaving,
    MemberSeen,
    Piece,
    RankSeen,
    Seen,
)
from scripts.fault_runs.questions import least_margin, prompts
from scripts.fault_runs.recorder import Recorder
from scripts.fault_runs.rest import apart, is_idle, unready
from scripts.fault_runs.scenarios import Layout, Moment, Target, in_order, kinds, scenario
from scripts.fault_runs.striking import reached
from scripts.fault_runs.summary import Outcome, render, render_violations
from scripts.fault_runs.watcher import Watcher

# -- what is drawn ---------------------------------------------------------------------------------

DRAWN = [scenario(1, number, namespaces=True) for number in range(200)]


def test_a_run_is_the_same_whenever_it_is_drawn() -> None:
    assert [scenario(1, number, namespaces=True) for number in range(200)] == DRAWN
    assert [scenario(2, number, namespaces=True) for number in range(200)] != DRAWN


def test_every_kind_comes_before_any_comes_twice() -> None:
    rows = kinds(namespaces=True)
    assert {run.kind for run in DRAWN[: len(rows)]} == set(rows)
    assert {run.moment for run in DRAWN} == set(Moment)
    assert {str(run.layout) for run in DRAWN} == {"pipeline 2", "pipeline 3", "tensor 2", "hybrid 2x2"}


def test_links_are_cut_only_between_namespaces() -> None:
    for run in DRAWN:
        assert run.namespaces == any(fault.action is Action.CUT_LINK for fault in run.faults)
    for number in range(100):
        assert not scenario(1, number, namespaces=False).namespaces


def test_a_machine_that_the_instance_needs_comes_back() -> None:
    for run in DRAWN:
        away = [
            fault
            for fault in run.faults
            if fault.action in (Action.KILL_NODE, Action.STOP_NODE) and fault.heal_after_s is None
        ]
        assert run.nodes - len(away) >= run.layout.ranks, run.name


def test_a_middle_rank_lies_between_two_others() -> None:
    assert all(run.layout.ranks >= 3 for run in DRAWN if run.faults[0].target is Target.MIDDLE)


def test_runs_that_can_share_an_instance_follow_each_other() -> None:
    ordered = [(run.namespaces, run.nodes, run.layout) for run in in_order(DRAWN)]
    changes = sum(one != other for one, other in pairwise(ordered))
    assert changes + 1 == len(set(ordered))


def test_one_run_or_one_kind_can_be_had_again() -> None:
    assert choose(1, 200, "17", namespaces=True) == [DRAWN[17]]
    assert {run.kind for run in choose(1, 200, "kill-engine", namespaces=True)} == {
        "kill-engine first",
        "kill-engine middle",
        "kill-engine last",
    }


def test_an_unknown_kind_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--only", "earthquake"])
    assert "kill-node first" in capsys.readouterr().err


def test_prompts_are_the_same_for_a_seed() -> None:
    first, again = prompts(3), prompts(3)
    assert [next(first) for _ in range(20)] == [next(again) for _ in range(20)]


def test_a_close_rival_shows_at_any_position() -> None:
    assert least_margin([{"a": -1.0, "b": -3.0}, {"c": -1.0, "d": -1.25}]) == 0.25


def test_a_token_with_two_texts_is_no_rival_of_itself() -> None:
    assert least_margin([{"\ufffd": -1.0, "": -1.0, "b": -3.0}]) == 2.0
    assert least_margin([{"a": -1.0}]) == math.inf


# -- what is seen ----------------------------------------------------------------------------------


def watcher() -> tuple[Watcher, Recorder]:
    recorder = Recorder()
    return Watcher("n0", {"id-0": "n0", "id-1": "n1"}.__getitem__, recorder), recorder


def fact(**fields: object) -> dict[str, object]:
    return {"unknown": 1, **fields}


INSTANCE = fact(
    id="i", epoch=2, model="m", phase="ready", nodes=["id-0", "id-1"], sharding="tensor", running=1, waiting=2
)
DECLARED = fact(
    instance=fact(id="i", epoch=2, stages=[fact(first=0, end=3, nodes=["id-0", "id-1"])]),
    term=fact(number=4, node="id-1"),
)
RANK = fact(instance="i", epoch=2, rank=1, node="id-1", phase="loading", progress=0.5)
SNAPSHOT = {
    "node": "id-0",
    "nodes": [fact(id="id-0"), fact(id="id-1")],
    "instances": [INSTANCE],
    "ranks": [RANK],
    "declared": [DECLARED],
    "coordinators": [fact(node="id-1", term=fact(number=4, node="id-1"))],
}


def heard(events: list[AnyEvent]) -> list[AnyEvent]:
    """Without their times."""
    return [msgspec.structs.replace(event, at_s=0.0) for event in events]


def test_a_snapshot_is_noted_with_the_runs_own_names() -> None:
    follower, recorder = watcher()
    follower.take("snapshot", json.dumps(SNAPSHOT))

    by = "n0"
    assert heard(recorder.events) == [
        MemberSeen(at_s=0.0, by=by, node="n0"),
        MemberSeen(at_s=0.0, by=by, node="n1"),
        InstanceSeen(
            at_s=0.0,
            by=by,
            instance="i",
            model="m",
            epoch=2,
            phase="ready",
            ranks=("n0", "n1"),
            sharding="tensor",
            held=3,
        ),
        RankSeen(at_s=0.0, by=by, instance="i", epoch=2, rank=1, node="n1", phase="loading", progress=0.5),
        DeclaredSeen(
            at_s=0.0,
            by=by,
            instance="i",
            epoch=2,
            term=4,
            term_node="n1",
            ranks=("n0", "n1"),
            layers=((0, 3),),
        ),
        CoordinatorSeen(at_s=0.0, by=by, node="n1", term=4, term_node="n1"),
    ]
    assert follower.connected


@pytest.mark.parametrize(
    ("key", "left"), [("node/id-1", 5), ("rank/i/2/1/id-2", 5), ("instance/i/2", 5), ("coordinator/id-1", 5)]
)
def test_what_is_withdrawn_is_noted_as_gone(key: str, left: int) -> None:
    follower, recorder = watcher()
    follower.take("snapshot", json.dumps(SNAPSHOT))
    follower.take("change", json.dumps({"key": key, "kind": key.partition("/")[0], "value": None}))

    assert len(follower.seen) == left
    last = recorder.events[-1]
    assert isinstance(last, Seen)
    assert not last.here


def test_a_second_snapshot_tells_only_what_is_new_and_what_is_gone() -> None:
    follower, recorder = watcher()
    follower.take("snapshot", json.dumps(SNAPSHOT))
    recorder.begin()
    follower.take("snapshot", json.dumps({**SNAPSHOT, "nodes": [fact(id="id-0")], "ranks": []}))

    gone = {type(event) for event in recorder.events if isinstance(event, Seen) and not event.here}
    assert gone == {MemberSeen, RankSeen}
    assert len(recorder.events) == 2


def test_facts_of_other_kinds_are_passed_over() -> None:
    follower, recorder = watcher()
    follower.take("change", json.dumps({"key": "request/r", "kind": "request", "value": {"id": "r"}}))
    assert recorder.events == []


# -- whether it is at rest -------------------------------------------------------------------------


def view(
    by: str, members: str = "n0 n1", chairs: str = "n0", phase: str = "ready", epoch: int = 1, held: int = 0
) -> list[Seen]:
    return [
        *(MemberSeen(at_s=0, by=by, node=node) for node in members.split()),
        *(CoordinatorSeen(at_s=0, by=by, node=node) for node in chairs.split()),
        InstanceSeen(
            at_s=0,
            by=by,
            instance="i",
            model="m",
            epoch=epoch,
            phase=phase,
            ranks=("n0", "n1"),
            sharding="tensor",
            held=held,
        ),
    ]


def test_a_cluster_at_rest_has_nothing_amiss() -> None:
    views = {"n0": view("n0"), "n1": view("n1")}
    assert (apart(views), unready(views, "m", Layout(1, 2)), is_idle(views, "m")) == ("", "", True)


def test_what_is_amiss_is_told() -> None:
    calm = view("n0")
    assert "n1 sees n1 as members" in apart({"n0": calm, "n1": view("n1", members="n1")})
    assert "n1 sees n0, n1 as coordinator" in apart({"n0": calm, "n1": view("n1", chairs="n0 n1")})
    assert "n1 sees nobody as coordinator" in apart({"n0": calm, "n1": view("n1", chairs="")})
    assert "not all see the same" in apart({"n0": calm, "n1": view("n1", chairs="n1")})
    assert "epoch 1 loading" in unready({"n1": view("n1", phase="loading")}, "m")
    assert "nobody" in unready({"n1": []}, "m")
    assert "ready on n0, n1" in unready({"n0": calm}, "m")
    assert "as tensor 2 instead of pipeline 2" in unready({"n0": calm}, "m", Layout(2, 1))
    assert "several epochs" in unready({"n0": calm, "n1": view("n1", epoch=2)}, "m")
    assert not is_idle({"n0": calm, "n1": view("n1", held=1)}, "m")


def test_a_moment_is_reached_by_what_the_history_says() -> None:
    loading = RankSeen(at_s=0, by="n0", instance="i", epoch=1, rank=0, phase="loading")
    pieces = [Piece(at_s=0, request="r", text="x")] * 20
    left = GaveUp(at_s=0, request="r", how=Leaving.CANCEL)
    assert [reached(moment, [loading]) for moment in Moment] == [True, False, False, False]
    assert [reached(moment, [*pieces]) for moment in Moment] == [False, False, True, False]
    assert reached(Moment.PREFILL, [Accepted(at_s=0, request="r", id="")])
    assert reached(Moment.CANCEL, [left])


async def test_a_recorder_wakes_who_waits_for_what_it_says() -> None:
    recorder = Recorder()
    waiting = asyncio.create_task(recorder.until(lambda: len(recorder.events) == 2, 10.0))
    for _ in range(2):
        recorder.add(Piece(at_s=0, request="r", text="x"))
    assert await waiting
    assert not await recorder.until(lambda: False, 0.01)


async def test_work_done_together_ends_with_all_reasons() -> None:
    async def fails(why: str) -> None:
        raise ClusterBroken(why)

    with pytest.raises(ClusterBroken, match=r"one; two"):
        await together(fails("one"), fails("two"))


# -- the summary -----------------------------------------------------------------------------------


def outcome(number: int, *violations: Violation, pauses: tuple[float, ...] = ()) -> Outcome:
    return Outcome(number, "kill-node first", "kill-node first, ...", violations, pauses, (0.5,), 1, 9.0)


def test_outcomes_become_a_row_for_each_kind_and_one_for_all() -> None:
    broken = Violation(Rule.ONE_END, "r0 on n1 has no end", 3.0)
    text = render([outcome(0, pauses=(1.0, 2.0)), outcome(1, broken, pauses=(3.0,))])

    _head, _rule, row, last, *words = text.splitlines()
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells == ["kill-node first", "2", "1", "1", "2", "2.00", "2.80", "3.00", "0.50", "0.50", "0.50"]
    assert last.startswith("| all")
    assert "one end 1" in text
    assert "median 2.00 s (target: under 3 s, met)" in words[-1]


def test_a_violation_is_told_in_a_line() -> None:
    line = render_violations([Violation(Rule.FREED, "n0 sees 1 sequences", 3.0)])
    assert line.split() == ["3.00", "s", "freed:", "n0", "sees", "1", "sequences"]
