"""Bounded mailboxes: a full one refuses, a closed one refuses, and none of them loses an ask."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable

from pykka import ActorDeadError
from pykka._envelope import Envelope

from actors.kernel.lifecycle import Kill, Killed
from actors.kernel.loop import call_on, is_running_here

Letter = Envelope[object]


class MailboxFull(Exception):
    """The receiver does not keep up; the sender must drop, wait or fail."""


class Mailbox:
    """A bounded first-in, first-out queue for one reader. A kill goes before everything in it.

    Closing and putting exclude each other: each ask was either refused, or is among what `close` returns.
    """

    def __init__(self, bound: int, owner: str) -> None:
        self.bound = bound
        self.owner = owner
        self.killed: Killed | None = None
        self._lock = threading.Lock()
        self._letters: deque[Letter] = deque()
        self._closed = False

    def __len__(self) -> int:
        return len(self._letters)

    def empty(self) -> bool:
        return not self._letters and self.killed is None

    def put(self, envelope: Letter, /) -> None:
        """Raises MailboxFull and ActorDeadError."""
        with self._lock:
            self._refuse_if_closed()
            if len(self._letters) >= self.bound:
                raise MailboxFull(f"{self.owner}: {self.bound} messages waiting")
            self._letters.append(envelope)
            self._wake()

    def put_beyond_bound(self, envelope: Letter, /) -> None:
        """For stops, ends and timers, whose number is bounded elsewhere. Raises ActorDeadError."""
        with self._lock:
            self._refuse_if_closed()
            self._letters.append(envelope)
            self._wake()

    def kill(self, reason: str) -> bool:
        """Have the reader die next. False: it was killed before, or can't be any more."""
        with self._lock:
            if self.killed is not None:
                return False
            self.killed = Killed(reason)
            if not self._closed:
                self._wake()
            return True

    def close(self) -> list[Letter]:
        """Refuse from now on. Returns what nobody will read."""
        with self._lock:
            self._closed = True
            unread, self._letters = list(self._letters), deque()
            return unread

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise ActorDeadError(f"{self.owner} has ended")

    def _take(self) -> Letter:
        return self._letters.popleft() if self.killed is None else Envelope(Kill(str(self.killed)))

    def _wake(self) -> None:
        """Wake the reader; called with the lock held."""
        raise NotImplementedError


class ThreadMailbox(Mailbox):
    """A mailbox that its reader's thread sleeps on."""

    def __init__(self, bound: int, owner: str) -> None:
        super().__init__(bound, owner)
        self._filled = threading.Condition(self._lock)

    def get(self) -> Letter:
        with self._filled:
            while self.empty():
                self._filled.wait()
            return self._take()

    def _wake(self) -> None:
        self._filled.notify()


class LoopMailbox(Mailbox):
    """A mailbox that its reader, a task on `loop`, awaits."""

    def __init__(self, bound: int, owner: str, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(bound, owner)
        self.loop = loop
        self.interrupt: Callable[[], object] | None = None
        self._waiter: asyncio.Future[None] | None = None

    def get(self) -> Letter:
        """The next letter, without waiting for one. Raises IndexError."""
        return self._take()

    async def filled(self) -> None:
        """Wait until there is something to get."""
        with self._lock:
            if not self.empty():
                return
            self._waiter = waiter = self.loop.create_future()
        await waiter

    def kill(self, reason: str) -> bool:
        """Also interrupts what the reader is awaiting."""
        try:
            if not super().kill(reason):
                return False
            call_on(self.loop, lambda: self.interrupt and self.interrupt())
        except (RuntimeError, ActorDeadError):
            return False  # the loop is closed, and its tasks have been cancelled with it
        return True

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is None:
            return
        if is_running_here(self.loop):
            _resolve(waiter)
            return
        try:
            self.loop.call_soon_threadsafe(_resolve, waiter)
        except RuntimeError:
            raise ActorDeadError(f"{self.owner}: its event loop is closed") from None


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
