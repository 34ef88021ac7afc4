"""What both seats of an actor share: hooks, children, timers, and an end that is announced exactly once."""

from __future__ import annotations

import abc
import asyncio
import logging
from collections.abc import Callable
from types import TracebackType
from typing import ClassVar, Generic, Never, ParamSpec, TypeVar

import pykka

from actors.kernel.future import Future
from actors.kernel.hooks import PykkaActor
from actors.kernel.lifecycle import Kill
from actors.kernel.loop import Timer, bound_loop
from actors.kernel.mailbox import Letter
from actors.kernel.reference import Ref

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

    def stop(self) -> None:
        """Stop in order, after the messages that wait now."""
        self._ref.stop(block=False)

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
        """Handle no more messages. The first cause stays, but a kill is the cause of what it brings about."""
        if self._cause is None:
            self._cause = self.actor_inbox.killed or cause
        self.actor_stopped.set()

    def _outlives(self, error: Exception, letter: Letter) -> bool:
        """An error in the answer to an `ask` goes to the asker; any other is the actor's own failure."""
        if letter.reply_to is not None:
            logger.debug("%s answers with an error", self._ref, exc_info=error)
            letter.reply_to.set_exception((type(error), error, error.__traceback__))
            return True
        self._handle_failure(type(error), error, error.__traceback__)
        return False

    def _tell_started(self) -> None:
        """Unless it was killed meanwhile, which is seen next."""
        if self.actor_inbox.killed is None:
            self._ref.started.set()

    def _close(self) -> None:
        """Refuse messages from now on, and tell those who asked that there will be no answer."""
        self.actor_stopped.set()
        unread = self.actor_inbox.close()
        for letter in unread:
            leave_unanswered(letter, self._ref)
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


def leave_unanswered(letter: Letter, ref: Ref[Never]) -> None:
    if letter.reply_to is not None:
        error = pykka.ActorDeadError(f"{ref} ended before it answered")
        letter.reply_to.set_exception((type(error), error, None))
