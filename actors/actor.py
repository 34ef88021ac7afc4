"""Pykka's actors on two seats, a thread or the event loop, with children, timers and an announced end."""

from __future__ import annotations

import abc
import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import ClassVar, Generic, Never, ParamSpec, TypeVar

import pykka

from actors.future import Future
from actors.hooks import PykkaActor
from actors.lifecycle import Escaped, Kill, Killed
from actors.loop import Timer, bound_loop, call_on
from actors.mailbox import Letter, LoopMailbox, ThreadMailbox
from actors.reference import Ref

logger = logging.getLogger(__name__)

M = TypeVar("M")
N = TypeVar("N")
P = ParamSpec("P")


class Actor(PykkaActor, abc.ABC, Generic[M]):
    """What both seats share. `M` is the union of the messages that the actor understands.

    The hooks, each optional but `on_receive`, in the order of a life:
    `on_start` before the first message; `on_receive` for each; then `on_stop` if it was stopped in order, or
    `on_failure` if a message that nobody awaits an answer to raised; and `on_end`, however it ended.
    An error in the answer to an `ask` goes to the asker, and the actor lives on.
    """

    mailbox_bound: ClassVar[int] = 1000
    """How many messages may wait; the next `tell` raises MailboxFull."""

    def __init__(self) -> None:
        super().__init__()
        self._ref: Ref[M] = Ref(self)
        self._actor_ref = self._ref
        self._children: dict[Ref[Never], None] = {}
        self._timers: set[Timer] = set()
        self._cause: BaseException | None = None
        self._in_order = False

    @classmethod
    def start(cls: Callable[P, Actor[N]], *args: P.args, **kwargs: P.kwargs) -> Ref[N]:
        """Make and start an actor. Returns before `on_start` has run: see `Ref.started`."""
        return cls(*args, **kwargs)._begin()

    @property
    def actor_ref(self) -> Ref[M]:
        return self._ref

    @abc.abstractmethod
    def on_receive(self, message: M) -> object:
        """Handle a message; what is returned answers an `ask`."""

    def on_end(self, cause: BaseException | None) -> object:
        """Let go of what the actor holds, however it ended. No cause: in order."""

    def spawn(self, actor: Callable[P, Actor[N]], *args: P.args, **kwargs: P.kwargs) -> Ref[N]:
        """Start a child, which is killed when this actor ends. To be told of the child's end, watch it."""
        return self.adopt(actor(*args, **kwargs)._begin())

    def adopt(self, child: Ref[N]) -> Ref[N]:
        """Make an actor that was started elsewhere a child of this one."""
        self._children[child] = None
        child.ended.when_done(lambda: self._children.pop(child, None))
        if self._ref.ended.is_done():
            child.kill(f"its parent {self._ref} has ended")
        return child

    def tell_later(self, delay_s: float, message: M) -> Timer:
        """Have this actor told `message` after a delay, full mailbox or not; ends with the actor."""
        timer = Timer(
            self._timer_loop(), delay_s, lambda: self._ref.deliver(message), forget=self._timers.discard
        )
        self._timers.add(timer)
        timer.start()
        return timer

    def _timer_loop(self) -> asyncio.AbstractEventLoop:
        return bound_loop()

    def _begin(self) -> Ref[M]:
        pykka.ActorRegistry.register(self._ref)
        try:
            self._start_actor_loop()
        except BaseException:
            pykka.ActorRegistry.unregister(self._ref)
            raise
        return self._ref

    @staticmethod
    def _create_future() -> Future[object]:
        return Future()

    def _handle_receive(self, message: object) -> object:
        if type(message) is Kill:
            self._die(self.actor_inbox.killed)
            return None
        return super()._handle_receive(message)

    def _stop(self) -> None:
        """Pykka's way to act on a stop; `on_stop` runs later, once the mailbox refuses."""
        self._in_order = True
        self.actor_stopped.set()

    def _handle_failure(
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exception_type is not None and exception_value is not None:
            logger.error("%s failed", self._ref, exc_info=(exception_type, exception_value, traceback))
        self._die(exception_value)

    def _die(self, cause: BaseException | None) -> None:
        """Handle no more messages. The first cause stays the cause."""
        if self._cause is None:
            self._cause = cause
        self.actor_stopped.set()

    def _close(self) -> None:
        """Refuse messages from now on, and tell those who asked that there will be no answer."""
        self.actor_stopped.set()
        unread = self.actor_inbox.close()
        for letter in unread:
            _leave_unanswered(letter, self._ref)
        if unread:
            logger.debug("%s ended with %d messages unread", self._ref, len(unread))
        for timer in self._timers.copy():
            timer.cancel()

    def _actor_loop_teardown(self) -> None:
        """Every life ends here, exactly once, after the last hook."""
        self._close()
        for child in reversed(tuple(self._children)):
            child.kill(f"its parent {self._ref} has ended")
        pykka.ActorRegistry.unregister(self._ref)
        self._ref.announce_end(self._cause)


class ThreadActor(Actor[M]):
    """An actor with a thread of its own: its hooks may block, and are not interrupted by a kill."""

    def _create_actor_inbox(self) -> ThreadMailbox:
        return ThreadMailbox(self.mailbox_bound, type(self).__name__)

    def _start_actor_loop(self) -> None:
        # A daemon, so that a handler that blocks for ever can't keep the process from ending.
        threading.Thread(target=self._actor_loop, name=str(self._ref), daemon=True).start()

    def _actor_loop(self) -> None:
        for phase in (self._actor_loop_setup, self._actor_loop_running, self._close, self._leave):
            try:
                phase()
            except BaseException as error:
                self._handle_failure(type(error), error, error.__traceback__)
        self._actor_loop_teardown()

    def _actor_loop_setup(self) -> None:
        if self.actor_inbox.killed is None:
            self.on_start()
            self._ref.started.set()

    def _handle_receive(self, message: object) -> object:
        try:
            return super()._handle_receive(message)
        except Exception:
            raise
        except BaseException as stray:
            raise Escaped(f"{stray!r} escaped from a handler") from stray

    def _leave(self) -> None:
        try:
            if self._in_order:
                self.on_stop()
        except BaseException as error:
            self._handle_failure(type(error), error, error.__traceback__)
        self.on_end(self._cause)


class LoopActor(Actor[M]):
    """An actor that is a task on the bound event loop: its hooks may be `async def`, and must not block.

    A kill interrupts what a hook awaits, but for `on_end`, which has `end_within_s` seconds instead.
    """

    end_within_s: ClassVar[float] = 5.0

    burst: ClassVar[int] = 64
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
        await self._guarded(self._live)
        self._close()
        if self._in_order:
            await self._guarded(self.on_stop)
        self._interruptible = False
        await self._guarded(lambda: asyncio.sleep(0))  # takes in a cancel that is still on its way
        await self._guarded(self._leave)

    def _bury(self, task: asyncio.Task[None]) -> None:
        """Called by the loop however the task ended, even if it was cancelled before its first step."""
        if task.cancelled():
            self._die(Killed("its task was cancelled"))
        elif (error := task.exception()) is not None:
            self._handle_failure(type(error), error, error.__traceback__)
        self._actor_loop_teardown()

    async def _guarded(self, phase: Callable[[], object]) -> None:
        """Run a part of the life; whatever ends it early becomes the cause of death."""
        try:
            await _settled(phase())
        except asyncio.CancelledError as stray:
            if not self._take_cancel():
                self._handle_failure(Escaped, _escaped(stray), stray.__traceback__)
        except (Exception, SystemExit) as error:
            self._handle_failure(type(error), error, error.__traceback__)

    def _take_cancel(self) -> bool:
        """Whether this very task was told to end, not something that it awaited; if so, die of it."""
        killed = self.actor_inbox.killed
        if killed is None and not self._cancelling():
            return False
        while self._task is not None and self._cancelling():
            self._task.uncancel()  # or the hooks to come could not use timeouts
        self._die(killed or Killed("its task was cancelled"))
        return True

    def _cancelling(self) -> bool:
        return self._task is not None and self._task.cancelling() > 0

    async def _live(self) -> None:
        inbox = self._mailbox
        if inbox.killed is not None:
            self._die(inbox.killed)
            return
        await _settled(self.on_start())
        self._ref.started.set()
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
            if letter.reply_to is not None:
                letter.reply_to.set(answer)
        except Exception as error:
            await self._failed(letter, error)
        except asyncio.CancelledError as stray:
            if self._cancelling():
                _leave_unanswered(letter, self._ref)
                raise
            await self._failed(letter, _escaped(stray))
        except SystemExit as stray:
            await self._failed(letter, _escaped(stray))

    async def _failed(self, letter: Letter, error: Exception) -> None:
        trace = error.__traceback__
        if letter.reply_to is not None:
            logger.debug("%s answers with an error", self._ref, exc_info=error)
            letter.reply_to.set_exception((type(error), error, trace))
            return
        self._handle_failure(type(error), error, trace)
        await self._guarded(lambda: self.on_failure(type(error), error, trace))

    async def _leave(self) -> None:
        limit = asyncio.timeout(self.end_within_s)
        try:
            async with limit:
                await _settled(self.on_end(self._cause))
        except TimeoutError:
            if not limit.expired():
                raise
            logger.error("%s: on_end did not finish within %s s", self._ref, self.end_within_s)


def _leave_unanswered(letter: Letter, ref: Ref[Never]) -> None:
    if letter.reply_to is not None:
        error = pykka.ActorDeadError(f"{ref} ended before it answered")
        letter.reply_to.set_exception((type(error), error, None))


def _escaped(stray: BaseException) -> Escaped:
    error = Escaped(f"{stray!r} escaped from a handler")
    error.__cause__ = stray
    return error


async def _settled(result: object) -> object:
    return await result if isinstance(result, Awaitable) else result
