"""A future that threads get, coroutines await, and anybody is called back by."""

from __future__ import annotations

import asyncio
import logging

import pykka
import pytest

from actors.kernel.future import Future
from tests.actors.probe import soon


async def test_it_is_awaited_without_blocking_the_loop() -> None:
    future: Future[int] = Future()
    waiting = asyncio.ensure_future(_wait(future))
    await asyncio.sleep(0)
    assert not waiting.done()
    await asyncio.to_thread(future.set, 42)
    assert await soon(waiting) == 42


async def test_several_may_await_it_and_again() -> None:
    future: Future[int] = Future()
    waiting = asyncio.gather(*(_wait(future) for _ in range(3)))
    await asyncio.sleep(0)
    future.set(42)
    assert await soon(waiting) == [42, 42, 42]
    assert await soon(future) == 42


async def test_an_error_is_raised_where_it_is_awaited() -> None:
    future: Future[int] = Future()
    future.fail(ZeroDivisionError("why"))
    with pytest.raises(ZeroDivisionError, match="why"):
        await soon(future)
    with pytest.raises(ZeroDivisionError, match="why"):
        future.get()


async def test_who_gives_up_waiting_disturbs_nobody() -> None:
    future: Future[int] = Future()
    waiting = asyncio.ensure_future(_wait(future))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    future.set(42)
    assert await soon(future) == 42


async def test_what_is_derived_from_it_is_awaited_too() -> None:
    future: Future[int] = Future()
    doubled = future.map(lambda value: 2 * value)
    asyncio.get_running_loop().call_soon(future.set, 21)
    assert await soon(doubled) == 42


def test_a_callback_comes_when_it_is_set_or_at_once() -> None:
    future: Future[int] = Future()
    calls: list[str] = []
    future.when_done(lambda: calls.append("before"))
    assert calls == []
    future.set(42)
    future.when_done(lambda: calls.append("after"))
    assert calls == ["before", "after"]


def test_a_callback_that_fails_keeps_none_from_being_called(caplog: pytest.LogCaptureFixture) -> None:
    future: Future[int] = Future()
    calls: list[str] = []
    future.when_done(lambda: 1 // 0)
    future.when_done(lambda: calls.append("next"))
    with caplog.at_level(logging.ERROR):
        future.set(42)
    assert calls == ["next"]
    assert "a callback of a future failed" in caplog.text


def test_a_loop_that_closed_meanwhile_disturbs_nobody() -> None:
    future: Future[int] = Future()

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_wait(future), 0.001)

    asyncio.run(give_up())
    future.set(42)
    assert future.get(timeout=0) == 42


def test_a_thread_waits_with_a_deadline() -> None:
    future: Future[int] = Future()
    with pytest.raises(pykka.Timeout):
        future.get(timeout=0.001)


async def _wait(future: Future[int]) -> int:
    return await future
