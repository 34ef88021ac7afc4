"""A reference to an actor: tell, ask, stop, kill and watch it from any thread or coroutine."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Generic, Literal, TypeAlias, TypeVar, cast, overload

import pykka
from pykka._envelope import Envelope
from pykka.messages import _ActorStop

from actors.kernel.future import Future
from actors.kernel.lifecycle import Terminated
from actors.kernel.loop import is_running_here
from actors.kernel.mailbox import Mailbox, MailboxFull

if TYPE_CHECKING:
    from actors.kernel.hooks import PykkaActor

M = TypeVar("M", contravariant=True)
R = TypeVar("R")
Kind: TypeAlias = type[R] | tuple[type[R], ...]

DEFAULT_TIMEOUT_S = 5.0


class AskTimeout(pykka.Timeout, TimeoutError):
    """The actor did not answer in time."""


class WouldBlockLoop(RuntimeError):
    """A blocking wait on a thread that runs an event loop."""


class Ref(pykka.ActorRef[pykka.Actor], Generic[M]):
    """A reference to an actor that understands messages of type `M`.

    It stays with one life of an actor: a supervisor that restarts it has a new one (see `Directory`).
    """

    started: Future[None]
    """Done when `on_start` has returned; ActorDeadError if the actor ended before."""

    ended: Future[None]
    """Done when the actor has ended, its children are told so too, and nothing of it runs any more."""

    cause: BaseException | None
    """Why it ended. None: it lives, or it stopped in order."""

    def __init__(self, actor: PykkaActor) -> None:
        super().__init__(cast("pykka.Actor", actor))
        self.mailbox: Mailbox = actor.actor_inbox
        self.started = Future()
        self.ended = Future()
        self.cause = None
        self._watchers: set[Ref[Terminated]] | None = set()
        self._prune_at = 64
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return f"{self.actor_class.__name__}-{self.actor_urn[-6:]}"

    def __repr__(self) -> str:
        return f"<Ref {self} {'alive' if self.is_alive() else 'ended'}, {len(self.mailbox)} waiting>"

    def tell(self, message: M) -> None:
        """Leave a message. Raises MailboxFull and ActorDeadError."""
        self.mailbox.put(Envelope(message))

    def post(self, message: M) -> bool:
        """Leave a message; False: the actor has ended or does not keep up."""
        try:
            self.mailbox.put(Envelope(message))
        except (pykka.ActorDeadError, MailboxFull):
            return False
        return True

    @overload
    def ask(
        self, message: M, reply: type[object] = ..., *, block: Literal[False], timeout: float | None = None
    ) -> Future[object]: ...

    @overload
    def ask(
        self, message: M, reply: Kind[R], *, block: Literal[True] = True, timeout: float | None = ...
    ) -> R: ...

    @overload
    def ask(self, message: M, *, block: bool = True, timeout: float | None = ...) -> object: ...

    def ask(
        self,
        message: M,
        reply: Kind[object] = object,
        *,
        block: bool = True,
        timeout: float | None = DEFAULT_TIMEOUT_S,
    ) -> object:
        """Ask, and wait for the answer, which is checked to be a `reply` (a type, or a tuple of types).

        Raises AskTimeout, ActorDeadError, MailboxFull, TypeError (another answer), WouldBlockLoop (coroutines
        use `request`), and what the handler raised. Without `block` returns the answer's Future, unchecked.
        """
        if block:
            _refuse_to_block_a_loop("await ref.request(message)")
        future: Future[object] = Future()
        try:
            self.mailbox.put(Envelope(message, reply_to=future))
        except (pykka.ActorDeadError, MailboxFull) as refusal:
            future.fail(refusal)
        if not block:
            return future
        try:
            return self._checked(message, future.get(timeout=timeout), reply)
        except pykka.Timeout:
            raise self._late(message, timeout) from None

    @overload
    async def request(self, message: M, reply: Kind[R], *, timeout: float = ...) -> R: ...

    @overload
    async def request(self, message: M, *, timeout: float = ...) -> object: ...

    async def request(
        self, message: M, reply: Kind[object] = object, *, timeout: float = DEFAULT_TIMEOUT_S
    ) -> object:
        """Ask from a coroutine, without blocking its loop. Raises as `ask` does."""
        future = self.ask(message, block=False)
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                answer = await future
        except TimeoutError:
            if limit.expired():
                raise self._late(message, timeout) from None
            raise
        return self._checked(message, answer, reply)

    @overload
    def stop(self, *, block: Literal[True] = True, timeout: float | None = ...) -> bool: ...

    @overload
    def stop(self, *, block: Literal[False], timeout: float | None = None) -> Future[bool]: ...

    @overload
    def stop(self, *, block: bool = True, timeout: float | None = ...) -> bool | Future[bool]: ...

    def stop(self, *, block: bool = True, timeout: float | None = DEFAULT_TIMEOUT_S) -> bool | Future[bool]:
        """End the actor in order, after the messages before this one, and wait until it has ended.

        False: it had ended already. Raises AskTimeout (it still stops when it gets there) and WouldBlockLoop;
        a coroutine awaits `stop(block=False)`.
        """
        if block:
            _refuse_to_block_a_loop("await ref.stop(block=False)")
        done: Future[bool] = Future()
        try:
            self.mailbox.put_beyond_bound(Envelope(_ActorStop()))
            stopping = True
        except pykka.ActorDeadError:
            stopping = False
        self.ended.when_done(lambda: done.set(stopping))
        if not block:
            return done
        try:
            return bool(done.get(timeout=timeout))
        except pykka.Timeout:
            raise self._late(_ActorStop(), timeout) from None

    def kill(self, reason: str) -> None:
        """End the actor at once: what it awaits is interrupted, what waits in its mailbox is discarded.

        A handler that blocks a thread can't be interrupted: a ThreadActor ends when its handler returns.
        """
        self.mailbox.kill(reason)

    def watch(self, watcher: Ref[Terminated]) -> None:
        """Have `watcher` told Terminated, once, when this actor ends, or now if it has ended."""
        with self._lock:
            if self._watchers is not None:
                self._watchers = self._pruned(self._watchers)
                self._watchers.add(watcher)
                return
        watcher.deliver(Terminated(self, self.cause))

    def unwatch(self, watcher: Ref[Terminated]) -> None:
        with self._lock:
            if self._watchers is not None:
                self._watchers.discard(watcher)

    def watcher_count(self) -> int:
        with self._lock:
            return len(self._watchers or ())

    def deliver(self, message: M) -> bool:
        """Post beyond the mailbox's bound: for ends and timers, each of which the receiver asked for."""
        try:
            self.mailbox.put_beyond_bound(Envelope(message))
        except pykka.ActorDeadError:
            return False
        return True

    def announce_end(self, cause: BaseException | None) -> None:
        """For the actor itself, as the last thing it does."""
        if not self.started.is_done():
            self.started.fail(pykka.ActorDeadError(f"{self} ended before it had started: {cause!r}"))
        with self._lock:
            self.cause = cause
            watchers, self._watchers = self._watchers or (), None
        for watcher in watchers:
            watcher.deliver(Terminated(self, cause))
        self.ended.set()

    def _pruned(self, watchers: set[Ref[Terminated]]) -> set[Ref[Terminated]]:
        """Without those that have ended, so that a long life watched by many short ones stays small."""
        if len(watchers) < self._prune_at:
            return watchers
        living = {watcher for watcher in watchers if watcher.is_alive()}
        self._prune_at = max(64, 2 * len(living))
        return living

    def _late(self, message: object, timeout: float | None) -> AskTimeout:
        return AskTimeout(f"{self} did not answer {type(message).__name__.lstrip('_')} within {timeout} s")

    def _checked(self, message: object, answer: object, reply: Kind[object]) -> object:
        if not isinstance(answer, reply):
            raise TypeError(f"{self} answered {type(message).__name__} with {type(answer).__name__}")
        return answer


def _refuse_to_block_a_loop(instead: str) -> None:
    if is_running_here():
        raise WouldBlockLoop(f"this would block the event loop: use {instead}")
