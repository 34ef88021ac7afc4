"""Messages to oneself after a delay: both seats, cancellable, never refused, gone with the actor."""

from __future__ import annotations

import asyncio

import pytest

from actors.kernel.loop import NoLoop, Timer, bind_loop
from tests.actors.probe import Clock, Diary, Later, Say, Start, ThreadProbe, ended, held, on_both_seats, stop

LATER_S, LONG_S = 1.0, 3600.0


@pytest.mark.usefixtures("bound_loop")
@on_both_seats
class TestOnBothSeats:
    """Each on both seats."""

    async def test_a_message_comes_later(self, start: Start, clock: Clock) -> None:
        ref = start(diary := Diary())
        later = await ref.request(Later(LATER_S, "later"), Timer)
        await ref.request(Say("now"))
        await _fired(later, clock)
        await stop(ref)
        assert diary.lines == ["on_start", "now", "later", "on_stop", "on_end"]

    async def test_earlier_comes_earlier(self, start: Start, clock: Clock) -> None:
        ref = start(diary := Diary())
        second = await ref.request(Later(2 * LATER_S, "second"), Timer)
        first = await ref.request(Later(LATER_S, "first"), Timer)
        await _fired(first, clock)
        assert second.is_set()
        await _fired(second, clock)
        await stop(ref)
        assert diary.lines[1:3] == ["first", "second"]

    async def test_a_cancelled_one_never_comes(self, start: Start, clock: Clock) -> None:
        ref = start(diary := Diary())
        cancelled = await ref.request(Later(LATER_S, "never"), Timer)
        await asyncio.to_thread(cancelled.cancel)
        await _fired(await ref.request(Later(LATER_S, "yes"), Timer), clock)
        await stop(ref)
        assert diary.lines == ["on_start", "yes", "on_stop", "on_end"]

    async def test_it_gets_into_a_full_mailbox(self, start: Start, clock: Clock) -> None:
        ref = start(diary := Diary())
        later = await ref.request(Later(LATER_S, "overdue"), Timer)
        hold = await held(ref)
        while ref.post(Say("x")):
            pass
        await _fired(later, clock)
        hold.release.set()
        await stop(ref)
        assert diary.lines.count("overdue") == 1

    async def test_it_ends_with_the_actor(self, start: Start) -> None:
        ref = start(Diary())
        later = await ref.request(Later(LONG_S, "never"), Timer)
        assert later.is_set()
        ref.kill("enough")
        await ended(ref)
        assert not later.is_set()


async def test_without_a_loop_there_are_no_timers() -> None:
    ref = ThreadProbe.start(Diary())
    with pytest.raises(NoLoop, match="bind_loop"):
        await ref.request(Later(LONG_S, "never"))
    await stop(ref)


async def test_a_timer_of_a_closed_loop_can_be_cancelled() -> None:
    async def set_timer() -> Timer:
        with bind_loop(asyncio.get_running_loop()) as binding:
            timer = Timer(binding.loop, LONG_S, lambda: None, lambda timer: None)
            timer.start()
            return timer

    timer = await asyncio.to_thread(asyncio.run, set_timer())
    timer.cancel()
    assert not timer.is_set()


async def _fired(timer: Timer, clock: Clock) -> None:
    """Let its time pass, and wait until the loop has called back whom it had to."""
    clock.now += LATER_S
    over = asyncio.Event()
    Timer(asyncio.get_running_loop(), 0.0, over.set, lambda timer: None).start()
    await over.wait()
    assert not timer.is_set()
