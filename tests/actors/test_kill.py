"""A kill ends an actor at once, whatever it is at, exactly once, and its end is announced."""

from __future__ import annotations

import asyncio

import pytest

from actors.kernel.lifecycle import Killed, Terminated
from actors.kernel.reference import Ref
from tests.actors.probe import (
    Bear,
    Diary,
    Raise,
    Say,
    Start,
    Watcher,
    ended,
    held,
    on_both_seats,
    stop,
)


@pytest.fixture(autouse=True)
def _bound(bound_loop: asyncio.AbstractEventLoop) -> None:
    """All of these need it."""


@on_both_seats
async def test_a_kill_goes_before_a_full_mailbox(start: Start) -> None:
    ref = start(diary := Diary())
    hold = await held(ref)
    while ref.post(Say("unread")):
        pass
    ref.kill("enough")
    hold.release.set()
    await ended(ref)
    assert repr(ref.cause) == repr(Killed("enough"))
    assert diary.lines == ["on_start", "on_end"]


@on_both_seats
async def test_a_kill_ends_three_generations(start: Start) -> None:
    diaries = [Diary() for _ in range(7)]
    parent = start(diaries[0])
    children = [await parent.request(Bear(diary), Ref) for diary in diaries[1:3]]
    grandchildren = [
        await child.request(Bear(diary), Ref) for child, diary in zip(children * 2, diaries[3:], strict=True)
    ]
    parent.kill("cascade")
    await ended(parent, *children, *grandchildren)
    assert str(parent.cause) == "cascade"
    assert {str(child.cause) for child in children} == {f"its parent {parent} has ended"}
    assert {str(each.cause) for each in grandchildren} == {
        f"its parent {child} has ended" for child in children
    }
    assert all(diary.lines == ["on_start", "on_end"] for diary in diaries)


@on_both_seats
@pytest.mark.parametrize("end", ["stop", "failure"])
async def test_children_end_however_their_parent_does(start: Start, end: str) -> None:
    parent = start(Diary())
    child = await parent.request(Bear(Diary()), Ref)
    if end == "stop":
        await stop(parent)
    else:
        parent.tell(Raise(ValueError()))
    await ended(parent, child)
    assert isinstance(child.cause, Killed)


@on_both_seats
async def test_a_child_that_ends_leaves_its_parent_alone(start: Start) -> None:
    parent = start(Diary())
    child = await parent.request(Bear(Diary()), Ref)
    child.kill("only you")
    await ended(child)
    assert await parent.request(Say("alive")) == "alive"
    await stop(parent)


@on_both_seats
async def test_only_the_first_kill_counts(start: Start) -> None:
    ends: asyncio.Queue[Terminated] = asyncio.Queue()
    watcher = Watcher.start(ends)
    ref = start(diary := Diary())
    ref.watch(watcher)
    for reason in ("first", "second", "third"):
        ref.kill(reason)
    await ended(ref)
    ref.kill("dead already")
    await stop(watcher)
    assert ends.qsize() == 1
    assert str(ref.cause) == "first"
    assert diary.lines.count("on_end") == 1


@on_both_seats
async def test_an_actor_may_be_killed_as_soon_as_it_is_made(start: Start) -> None:
    ref = start(Diary())
    ref.kill("at once")
    await ended(ref)
    assert str(ref.cause) == "at once"
