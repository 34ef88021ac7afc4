"""Supervisors: who is restarted with whom, in which order, and what happens when it does not help."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from actors.kernel.directory import Name
from actors.kernel.future import Future
from actors.kernel.lifecycle import Killed, Terminated
from actors.kernel.restarts import Restart, Strategy, TooManyRestarts
from actors.kernel.supervision import Child, Supervisor
from bus.backoff import Backoff
from tests.actors.probe import (
    Clock,
    Diary,
    Listener,
    Raise,
    Say,
    Start,
    Watcher,
    ended,
    held,
    on_both_seats,
    soon,
    stop,
)
from tests.actors.troop import (
    QUICK,
    A,
    B,
    C,
    Captain,
    CaptainMessage,
    Dismiss,
    Troop,
    caught_up,
    start_three,
)

pytestmark = on_both_seats

PATIENT = replace(QUICK, backoff=Backoff(first_s=3600.0, longest_s=3600.0))
"""Waits so long before a restart that a test sees none."""

SUPERVISION = "actors.kernel.supervision"


# -- start and stop --------------------------------------------------------------------------------


async def test_children_start_in_order_and_stop_in_reverse(troop: Troop) -> None:
    captain = start_three(troop)
    await soon(captain.started)
    await stop(captain)
    assert not troop.overtaken
    assert troop.order == ["a starts", "b starts", "c starts", "c ends", "b ends", "a ends"]
    assert captain.cause is None


async def test_children_are_known_by_their_names_while_they_live(troop: Troop) -> None:
    captain = start_three(troop)
    await soon(captain.started)
    assert troop.directory.names() == ("a", "b", "c")
    assert await troop.directory.get(B).request(Say("hello")) == "hello"
    await stop(captain)
    assert troop.directory.names() == ()


async def test_a_child_that_does_not_stop_in_time_is_killed(troop: Troop) -> None:
    captain = Captain.start(troop.child(A, stop_within_s=0.05))
    ref = await troop.next_life(A)
    hold = await held(ref)
    with Listener(SUPERVISION, "did not stop within 0.05 s: killed") as listener:
        captain.stop(block=False)
        await soon(listener.heard)
    hold.release.set()
    await ended(ref, captain)
    assert str(ref.cause) == "it did not stop within 0.05 s"


async def test_a_killed_supervisor_takes_its_children_with_it(troop: Troop) -> None:
    captain = start_three(troop)
    lives = await troop.next_lives()
    captain.kill("enough")
    await ended(captain, *lives)
    assert {str(ref.cause) for ref in lives} == {f"its parent {captain} has ended"}


async def test_a_plain_supervisor_understands_nothing_else(start: Start, troop: Troop) -> None:
    supervisor = Supervisor[str].start()
    with pytest.raises(TypeError, match="does not understand str"):
        await supervisor.request("hello")
    await stop(supervisor)


# -- restarts --------------------------------------------------------------------------------------


async def test_one_for_one_restarts_one_and_no_other(troop: Troop) -> None:
    captain = start_three(troop)
    a, b, c = await troop.next_lives()
    b.tell(Raise(ZeroDivisionError()))
    again = await troop.next_life(B)
    assert again is not b
    await caught_up(captain)
    assert [troop.directory.get(name) for name in (A, B, C)] == [a, again, c]
    await stop(captain)


async def test_rest_for_one_restarts_those_after_it_too(troop: Troop) -> None:
    captain = start_three(troop, Strategy.REST_FOR_ONE)
    a, b, _ = await troop.next_lives()
    troop.order.clear()
    b.tell(Raise(ZeroDivisionError()))
    await troop.next_life(B)
    await troop.next_life(C)
    assert troop.order == ["b ends", "c ends", "b starts", "c starts"]
    assert troop.directory.get(A) is a
    await stop(captain)


async def test_a_restarted_child_is_supervised_like_the_first(troop: Troop) -> None:
    captain = Captain.start(troop.child(A), intensity=QUICK)
    for _ in range(QUICK.restarts):
        (await troop.next_life(A)).kill("again")
    assert await (await troop.next_life(A)).request(Say("alive")) == "alive"
    await stop(captain)


async def test_a_permanent_child_is_restarted_after_a_stop_too(troop: Troop) -> None:
    captain = Captain.start(troop.child(A), intensity=QUICK)
    await stop(await troop.next_life(A))
    await troop.next_life(A)
    await stop(captain)


async def test_a_transient_child_is_restarted_after_a_failure_only(troop: Troop) -> None:
    captain = Captain.start(troop.child(A, Restart.TRANSIENT), intensity=QUICK)
    (await troop.next_life(A)).kill("restart me")
    await stop(await troop.next_life(A))
    await caught_up(captain)
    assert await captain.request(Dismiss(A)) is False, "it is forgotten"
    await stop(captain)
    assert troop.order.count("a starts") == 2


async def test_a_temporary_child_is_never_restarted(troop: Troop) -> None:
    captain = Captain.start(troop.child(A, Restart.TEMPORARY), intensity=QUICK)
    ref = await troop.next_life(A)
    ref.kill("enough")
    await ended(ref)
    await caught_up(captain)
    assert await captain.request(Dismiss(A)) is False, "it is forgotten"
    await stop(captain)
    assert troop.order == ["a starts", "a ends"]


async def test_a_temporary_child_that_is_stopped_with_others_stays_away(troop: Troop) -> None:
    children = troop.child(A), troop.child(B, Restart.TEMPORARY), troop.child(C)
    captain = Captain.start(*children, strategy=Strategy.REST_FOR_ONE, intensity=QUICK)
    a, _, _ = await troop.next_lives()
    a.kill("restart the rest")
    await troop.next_life(A)
    await troop.next_life(C)
    await stop(captain)
    assert troop.order.count("b starts") == 1


async def test_rest_for_one_starts_in_order_whoever_ended_first(troop: Troop) -> None:
    captain = start_three(troop, Strategy.REST_FOR_ONE)
    a, b, _ = await troop.next_lives()
    b.kill("first")
    a.kill("second")
    await ended(a)
    await troop.next_life(A)
    await caught_up(captain)
    assert troop.directory.names() == ("a", "b", "c")
    since = troop.order[troop.order.index("a ends") :]
    assert since.index("a starts") < len(since) - since[::-1].index("b starts") - 1
    assert since[-1] == "c starts"
    await stop(captain)


async def test_there_is_a_wait_before_a_restart_in_which_nobody_has_the_name(troop: Troop) -> None:
    captain = Captain.start(troop.child(A), intensity=PATIENT, directory=troop.directory)
    ref = await troop.next_life(A)
    ref.kill("enough")
    await ended(ref)
    await caught_up(captain)
    assert troop.directory.find(A) is None
    await stop(captain)
    assert troop.order == ["a starts", "a ends"]


# -- starts that fail ------------------------------------------------------------------------------


def b_fails_its_first_start(name: str, life: int) -> Diary:
    return Diary(wrong_in="on_start" if (name, life) == ("b", 1) else "")


def b_can_not_be_made_at_first(name: str, life: int) -> Diary:
    if (name, life) == ("b", 1):
        raise OSError("not yet")
    return Diary()


@pytest.mark.parametrize("strategy", Strategy)
@pytest.mark.parametrize("prepare", [b_fails_its_first_start, b_can_not_be_made_at_first])
async def test_a_start_that_fails_is_tried_again(
    troop: Troop, strategy: Strategy, prepare: Callable[[str, int], Diary]
) -> None:
    troop.prepare = prepare
    captain = start_three(troop, strategy)
    assert await (await troop.next_life(B)).request(Say("alive")) == "alive"
    await troop.next_life(C)
    await stop(captain)
    starts = [line for line in troop.order if line.endswith("starts")]
    if strategy is Strategy.REST_FOR_ONE:
        assert starts[-2:] == ["b starts", "c starts"]
        assert starts.count("c starts") == 1, "c waits for what it relies on"
    else:
        assert starts[-2:] == ["c starts", "b starts"]


async def test_a_start_that_takes_too_long_is_ended_and_tried_again(troop: Troop, clock: Clock) -> None:
    gate: Future[None] = Future()
    troop.prepare = lambda name, life: Diary(gate=gate if life == 1 else None)
    with Listener(SUPERVISION, "a did not start within 5.0 s: killed") as listener:
        captain = Captain.start(troop.child(A, start_within_s=5.0), intensity=QUICK)
        await caught_up(captain)
        clock.now += 5.0
        await soon(listener.heard)
    gate.set()
    assert await (await troop.next_life(A)).request(Say("alive")) == "alive"
    await stop(captain)
    assert troop.order.count("a starts") == 2


# -- giving up -------------------------------------------------------------------------------------


async def test_one_restart_too_many_ends_the_supervisor_and_its_other_children(troop: Troop) -> None:
    captain = start_three(troop)
    a, b, c = await troop.next_lives()
    ends: asyncio.Queue[Terminated] = asyncio.Queue()
    captain.watch(watcher := Watcher.start(ends))
    for _ in range(QUICK.restarts):
        a.kill("again")
        a = await troop.next_life(A)
    a.kill("once too often")
    await ended(captain, b, c)
    assert await soon(ends.get()) == Terminated(captain, captain.cause)
    assert isinstance(captain.cause, TooManyRestarts)
    assert isinstance(captain.cause.__cause__, Killed)
    assert (b.cause, c.cause) == (None, None), "they were stopped in order"
    await stop(watcher)


async def test_too_many_starts_that_fail_end_the_supervisor(troop: Troop) -> None:
    troop.prepare = lambda name, life: Diary(wrong_in="on_start")
    captain = Captain.start(troop.child(A), intensity=QUICK)
    await ended(captain)
    assert isinstance(captain.cause, TooManyRestarts)
    assert troop.order.count("a starts") == QUICK.restarts + 1


async def test_too_many_restarts_go_up_the_tree(troop: Troop) -> None:
    once = replace(QUICK, restarts=1)
    captain: Name[CaptainMessage] = Name("captain")
    top = Captain.start(Child(captain, lambda: Captain.start(troop.child(A), intensity=once)), intensity=once)
    for _ in range(4):  # two lives of the captain, each with two lives of the child
        assert top.is_alive()
        (await troop.next_life(A)).kill("again")
    await ended(top)
    assert isinstance(top.cause, TooManyRestarts)
    assert isinstance(top.cause.__cause__, TooManyRestarts)
    assert isinstance(top.cause.__cause__.__cause__, Killed)
    assert troop.order == ["a starts", "a ends"] * 4
