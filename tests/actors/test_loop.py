"""Which event loop LoopActors live on: bound by who runs it, per thread of control, and released again."""

from __future__ import annotations

import asyncio

import pytest

from actors.kernel.loop import NoLoop, bind_loop, bound_loop, call_on, is_running_here
from tests.actors.probe import Diary, LoopProbe, Say, stop


def test_without_a_bound_loop_a_loop_actor_says_what_to_do() -> None:
    with pytest.raises(NoLoop, match=r"bind_loop\(loop\)"):
        LoopProbe.start(Diary())


def test_bindings_nest() -> None:
    outer, inner = asyncio.new_event_loop(), asyncio.new_event_loop()
    with bind_loop(outer):
        with bind_loop(inner):
            assert bound_loop() is inner
        assert bound_loop() is outer
    with pytest.raises(NoLoop):
        bound_loop()
    outer.close()
    inner.close()


def test_what_is_released_first_never_comes_back_whatever_was_bound_first() -> None:
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    earlier, later = bind_loop(first), bind_loop(second)
    earlier.release()
    first.close()
    assert bound_loop() is second
    earlier.release()
    assert bound_loop() is second, "released twice is released"
    later.release()
    with pytest.raises(NoLoop):
        bound_loop()
    second.close()


async def test_a_thread_starts_an_actor_on_the_bound_loop(bound_loop: asyncio.AbstractEventLoop) -> None:
    ref = await asyncio.to_thread(LoopProbe.start, Diary())
    assert await ref.request(Say("here")) == "here"
    await stop(ref)


async def test_actors_of_two_loops_talk(bound_loop: asyncio.AbstractEventLoop) -> None:
    here = LoopProbe.start(Diary())

    async def there() -> object:
        with bind_loop(asyncio.get_running_loop()):
            ref = LoopProbe.start(Diary())
            answers = (await ref.request(Say("there")), await here.request(Say("here")))
            await stop(ref)
            return answers

    assert await asyncio.to_thread(asyncio.run, there()) == ("there", "here")
    await stop(here)


async def test_a_call_on_its_own_thread_is_made_at_once() -> None:
    calls: list[bool] = []
    loop = asyncio.get_running_loop()
    call_on(loop, lambda: calls.append(is_running_here(loop)))
    assert calls == [True]
    await asyncio.to_thread(call_on, loop, lambda: calls.append(is_running_here(loop)))
    await asyncio.sleep(0)
    assert calls == [True, True]
