"""Who watches an actor is told of its end: once, with its cause, also when it has ended before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from actors.kernel.lifecycle import Killed, Terminated
from actors.kernel.reference import Ref
from tests.actors.probe import (
    Diary,
    Raise,
    Start,
    Watcher,
    ended,
    held,
    on_both_seats,
    soon,
    stop,
)

pytestmark = on_both_seats

Ends = asyncio.Queue[Terminated]


@pytest.fixture
async def ends() -> Ends:
    return asyncio.Queue()


@pytest.fixture
async def watcher(bound_loop: asyncio.AbstractEventLoop, ends: Ends) -> AsyncIterator[Ref[Terminated]]:
    ref = Watcher.start(ends)
    yield ref
    await stop(ref)


async def test_a_watcher_is_told_of_a_stop(start: Start, watcher: Ref[Terminated], ends: Ends) -> None:
    ref = start(Diary())
    ref.watch(watcher)
    await stop(ref)
    assert await soon(ends.get()) == Terminated(ref, None)


async def test_a_watcher_is_told_of_a_failure(start: Start, watcher: Ref[Terminated], ends: Ends) -> None:
    ref = start(Diary())
    ref.watch(watcher)
    ref.tell(Raise(error := ZeroDivisionError()))
    assert await soon(ends.get()) == Terminated(ref, error)


async def test_a_watcher_is_told_of_a_failed_start(
    start: Start, watcher: Ref[Terminated], ends: Ends
) -> None:
    ref = start(Diary(wrong_in="on_start"))
    ref.watch(watcher)
    assert isinstance((await soon(ends.get())).cause, ValueError)


async def test_a_watcher_is_told_of_a_kill(start: Start, watcher: Ref[Terminated], ends: Ends) -> None:
    ref = start(Diary())
    ref.watch(watcher)
    ref.kill("enough")
    assert isinstance((await soon(ends.get())).cause, Killed)


async def test_a_watcher_of_the_dead_is_told_at_once(
    start: Start, watcher: Ref[Terminated], ends: Ends
) -> None:
    ref = start(Diary())
    ref.kill("enough")
    await ended(ref)
    ref.watch(watcher)
    assert await soon(ends.get()) == Terminated(ref, ref.cause)


async def test_who_watches_twice_is_told_once(start: Start, watcher: Ref[Terminated], ends: Ends) -> None:
    ref, last = start(Diary()), start(Diary())
    ref.watch(watcher)
    ref.watch(watcher)
    last.watch(watcher)
    await stop(ref, last)
    assert [(await soon(ends.get())).ref, (await soon(ends.get())).ref] == [ref, last]
    assert ends.empty()


async def test_who_no_longer_watches_is_not_told(start: Start, watcher: Ref[Terminated], ends: Ends) -> None:
    ref, last = start(Diary()), start(Diary())
    ref.watch(watcher)
    last.watch(watcher)
    ref.unwatch(watcher)
    await stop(ref, last)
    assert (await soon(ends.get())).ref is last


async def test_an_end_gets_into_a_full_mailbox(
    start: Start, watcher: Ref[Terminated], ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher.mailbox, "bound", 0)
    ref = start(Diary())
    ref.watch(watcher)
    await stop(ref)
    assert (await soon(ends.get())).ref is ref


async def test_a_long_life_forgets_those_of_its_watchers_that_have_ended(
    start: Start, bound_loop: asyncio.AbstractEventLoop
) -> None:
    ref = start(Diary())
    hold = await held(ref)
    for _ in range(300):
        short = Watcher.start(asyncio.Queue())
        ref.watch(short)
        short.kill("short")
        await ended(short)
    assert ref.watcher_count() < 100
    hold.release.set()
    await stop(ref)
