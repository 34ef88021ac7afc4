"""An actor's two seats: a thread of its own, or a task on the event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import ClassVar, TypeVar

from actors.kernel.base import Actor, leave_unanswered
from actors.kernel.lifecycle import Escaped, Killed
from actors.kernel.loop import bound_loop, call_on
from actors.kernel.mailbox import Letter, LoopMailbox, ThreadMailbox

logger = logging.getLogger(__name__)

M = TypeVar("M")


class ThreadActor(Actor[M]):
    """An actor with a thread of its own: its hooks may block, and are not interrupted by a kill."""

    def __init__(self) -> None:
        self._mailbox = ThreadMailbox(self.mailbox_bound, type(self).__name__)
        super().__init__()

    def _create_actor_inbox(self) -> ThreadMailbox:
        return self._mailbox

    def _start_actor_loop(self) -> None:
        # A daemon, so that a handler that blocks for ever can't keep the process from ending.
        threading.Thread(target=self._actor_loop, name=str(self._ref), daemon=True).start()

    def _actor_loop(self) -> None:
        self._guard(self._live)
        self._close()
        if self._in_order:
            self._guard(self.on_stop)
        self._guard(lambda: self.on_end(self._cause))
        self._actor_loop_teardown()

    def _guard(self, phase: Callable[[], object]) -> None:
        """Run a part of the life; whatever ends it early becomes the cause of death."""
        try:
            phase()
        except BaseException as error:
            self._handle_failure(type(error), error, error.__traceback__)

    def _live(self) -> None:
        if self._mailbox.killed is None:
            self.on_start()
        self._tell_started()
        while not self.actor_stopped.is_set():
            self._handle(self._mailbox.get())

    def _handle(self, letter: Letter) -> None:
        try:
            answer = self._handle_receive(letter.message)
        except BaseException as caught:
            error = _as_exception(caught)
            if not self._outlives(error, letter):
                self._guard(lambda: self.on_failure(type(error), error, error.__traceback__))
        else:
            if letter.reply_to is not None:
                letter.reply_to.set(answer)


class LoopActor(Actor[M]):
    """An actor that is a task on the bound event loop: its hooks may be `async def`, and must not block.

    A kill interrupts what a hook awaits, but for `on_end`, which has `end_within_s` seconds instead.
    """

    end_within_s: ClassVar[float] = 5.0

    burst: ClassVar[int] = 16
    """How many messages it handles before others on the loop get a turn."""

    def __init__(self) -> None:
        self._loop = bound_loop()
        self._mailbox = LoopMailbox(self.mailbox_bound, type(self).__name__, self._loop)
        self._task: asyncio.Task[None] | None = None
        self._interruptible = False
        super().__init__()

    def _create_actor_inbox(self) -> LoopMailbox:
        return self._mailbox

    def _timer_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def _start_actor_loop(self) -> None:
        call_on(self._loop, self._launch)

    def _launch(self) -> None:
        self._mailbox.interrupt = self._interrupt
        self._task = self._loop.create_task(self._life(), name=str(self._ref))
        self._task.add_done_callback(self._bury)

    def _interrupt(self) -> None:
        # A task that is cancelled before its first step never takes one; `_life` then sees the kill itself.
        if self._task is not None and self._interruptible:
            self._task.cancel()

    async def _life(self) -> None:
        self._interruptible = True
        await self._guard(self._live)
        self._close()
        if self._in_order:
            await self._guard(self.on_stop)
        self._interruptible = False
        await self._guard(lambda: asyncio.sleep(0))  # takes in a cancel that is still on its way
        self._uncancel()
        await self._guard(self._leave)

    def _bury(self, task: asyncio.Task[None]) -> None:
        """Called by the loop however the task ended, even if it was cancelled before its first step."""
        if task.cancelled():
            self._die(Killed("its task was cancelled"))
        elif (error := task.exception()) is not None:
            self._handle_failure(type(error), error, error.__traceback__)
        self._actor_loop_teardown()

    async def _guard(self, phase: Callable[[], object]) -> None:
        """Run a part of the life; whatever ends it early becomes the cause of death."""
        try:
            await _settled(phase())
        except (Exception, asyncio.CancelledError, SystemExit) as caught:
            if not (isinstance(caught, asyncio.CancelledError) and self._take_cancel()):
                error = _as_exception(caught)
                self._handle_failure(type(error), error, error.__traceback__)

    def _take_cancel(self) -> bool:
        """Whether this very task was told to end, not something that it awaited; if so, die of it."""
        killed = self.actor_inbox.killed
        if killed is None and not self._cancelling():
            return False
        self._uncancel()
        self._die(killed or Killed("its task was cancelled"))
        return True

    def _uncancel(self) -> None:
        """Forget cancels that were acted upon, or the hooks to come could not use timeouts."""
        while self._task is not None and self._cancelling():
            self._task.uncancel()

    def _cancelling(self) -> bool:
        return self._task is not None and self._task.cancelling() > 0

    async def _live(self) -> None:
        inbox = self._mailbox
        if inbox.killed is None:
            await _settled(self.on_start())
        self._tell_started()
        in_a_row = 0
        while not self.actor_stopped.is_set():
            in_a_row += 1
            if inbox.empty():
                await inbox.filled()
                in_a_row = 0
            elif in_a_row >= self.burst:
                await asyncio.sleep(0)
                in_a_row = 0
            await self._handle(inbox.get())

    async def _handle(self, letter: Letter) -> None:
        try:
            answer = self._handle_receive(letter.message)
            if isinstance(answer, Awaitable):
                answer = await answer
        except BaseException as caught:
            if self._cancelling() or isinstance(caught, KeyboardInterrupt):
                leave_unanswered(letter, self._ref)
                raise
            error = _as_exception(caught)
            if not self._outlives(error, letter):
                await self._guard(lambda: self.on_failure(type(error), error, error.__traceback__))
        else:
            if letter.reply_to is not None:
                letter.reply_to.set(answer)

    async def _leave(self) -> None:
        limit = asyncio.timeout(self.end_within_s)
        try:
            async with limit:
                await _settled(self.on_end(self._cause))
        except TimeoutError:
            if not limit.expired():
                raise
            logger.error("%s: on_end did not finish within %s s", self._ref, self.end_within_s)


def _as_exception(caught: BaseException) -> Exception:
    if isinstance(caught, Exception):
        return caught
    error = Escaped(f"{caught!r} escaped from a handler")
    error.__cause__ = caught
    return error


async def _settled(result: object) -> object:
    return await result if isinstance(result, Awaitable) else result
