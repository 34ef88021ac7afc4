"""A supervisor's children may come and go while it runs."""

from __future__ import annotations

from dataclasses import replace

from actors.kernel.lifecycle import Killed
from actors.kernel.restarts import Strategy
from bus.backoff import Backoff
from tests.actors.probe import (
    Listener,
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
    Dismiss,
    Enlist,
    Troop,
    caught_up,
    start_three,
)

pytestmark = on_both_seats

PATIENT = replace(QUICK, backoff=Backoff(first_s=3600.0, longest_s=3600.0))
"""Waits so long before a restart that a test sees none."""

SUPERVISION = "actors.kernel.supervision"


async def test_a_child_may_come_later(troop: Troop) -> None:
    captain = Captain.start(intensity=QUICK, directory=troop.directory)
    captain.tell(Enlist(troop.child(A)))
    (await troop.next_life(A)).kill("restart me")
    again = await troop.next_life(A)
    await caught_up(captain)
    assert troop.directory.get(A) is again
    await stop(captain)
    assert again.cause is None


async def test_a_child_that_comes_while_those_before_it_wait_waits_too(troop: Troop) -> None:
    captain = Captain.start(troop.child(A), strategy=Strategy.REST_FOR_ONE, intensity=PATIENT)
    ref = await troop.next_life(A)
    ref.kill("enough")
    await ended(ref)
    await caught_up(captain)
    captain.tell(Enlist(troop.child(B)))
    await caught_up(captain)
    await stop(captain)
    assert troop.order == ["a starts", "a ends"]


async def test_a_child_that_is_dismissed_stops_in_order_and_for_good(troop: Troop) -> None:
    captain = start_three(troop)
    _, b, _ = await troop.next_lives()
    assert await captain.request(Dismiss(B)) is True
    await ended(b)
    assert b.cause is None
    assert await captain.request(Dismiss(B)) is False
    assert troop.directory.names() == ("a", "c")
    await stop(captain)
    assert troop.order.count("b starts") == 1


async def test_a_child_that_is_dismissed_and_does_not_stop_is_killed(troop: Troop) -> None:
    captain = Captain.start(troop.child(A, stop_within_s=0.05))
    ref = await troop.next_life(A)
    hold = await held(ref)
    with Listener(SUPERVISION, "did not stop within 0.05 s: killed") as listener:
        captain.tell(Dismiss(A))
        await soon(listener.heard)
    hold.release.set()
    await ended(ref)
    assert isinstance(ref.cause, Killed)
    await stop(captain)


async def test_a_supervisor_that_stops_waits_for_who_was_dismissed_before(troop: Troop) -> None:
    captain = Captain.start(troop.child(A, stop_within_s=0.2))
    ref = await troop.next_life(A)
    hold = await held(ref)
    assert await captain.request(Dismiss(A)) is True
    with Listener(SUPERVISION, "did not stop within 0.2 s: killed") as listener:
        captain.stop(block=False)
        await soon(listener.heard)
    hold.release.set()
    await ended(ref, captain)
    assert str(ref.cause) == "it did not stop within 0.2 s"


async def test_those_that_waited_for_one_that_is_dismissed_wait_no_more(troop: Troop) -> None:
    children = (troop.child(name) for name in (A, B, C))
    captain = Captain.start(*children, strategy=Strategy.REST_FOR_ONE, intensity=PATIENT)
    lives = await troop.next_lives()
    lives[0].kill("enough")
    await ended(*lives)
    await caught_up(captain)
    assert await captain.request(Dismiss(A)) is True
    await troop.next_life(B)
    await troop.next_life(C)
    await stop(captain)
    assert troop.order.count("a starts") == 1
