"""Actors that do as they are told and write down what happens to them, on either seat."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Never, Self, TypeAlias, TypeVar

import pytest

from actors.kernel.actor import LoopActor, ThreadActor
from actors.kernel.future import Future
from actors.kernel.lifecycle import Terminated
from actors.kernel.reference import Ref

T = TypeVar("T")

DEADLINE_S = 30.0
"""For what takes a moment, on a machine that is busy with other things."""


async def soon(awaitable: Awaitable[T]) -> T:
    """The result, which must come before the deadline."""
    async with asyncio.timeout(DEADLINE_S):
        return await awaitable


@dataclass(frozen=True)
class Say:
    """Answered with `word`, which is written down."""

    word: str


@dataclass(frozen=True)
class Raise:
    """Raise this."""

    error: BaseException


@dataclass(frozen=True)
class Hold:
    """Handling this lasts until `release` is set; `begun` is set at its beginning."""

    begun: Future[None] = field(default_factory=Future)
    release: Future[None] = field(default_factory=Future)


@dataclass(frozen=True)
class Bear:
    """Answered with a new child of the same kind, which writes into this diary."""

    diary: Diary


@dataclass(frozen=True)
class Later:
    """Have yourself told this later. Answered with the timer."""

    delay_s: float
    word: str


@dataclass(frozen=True)
class Leave:
    """Stop yourself."""


ProbeMessage: TypeAlias = Leave | Say | Raise | Hold | Bear | Later
ProbeRef: TypeAlias = Ref[ProbeMessage]


@dataclass
class Diary:
    """What happened to an actor, in order; and what is to happen in its hooks."""

    lines: list[str] = field(default_factory=list)
    wrong_in: str = ""
    """The hook that raises, if any."""
    gate: Future[None] | None = None
    """What `on_start` waits for, if anything."""


class Hooked:
    """The hooks, as both seats have them; what is wrong with them is in the diary."""

    def __init__(self, diary: Diary) -> None:
        super().__init__()
        self.diary = diary

    def on_stop(self) -> None:
        self._write("on_stop")

    def on_failure(self, exception_type: object, exception_value: object, traceback: object) -> None:
        self._write("on_failure")

    def on_end(self, cause: BaseException | None) -> None:
        self._write("on_end")

    def _write(self, hook: str) -> None:
        self.diary.lines.append(hook)
        if self.diary.wrong_in == hook:
            raise ValueError(hook)


class ThreadProbe(Hooked, ThreadActor[ProbeMessage]):
    """A probe with a thread of its own."""

    mailbox_bound = 5

    def on_start(self) -> None:
        if self.diary.gate is not None:
            self.diary.gate.get(timeout=DEADLINE_S)
        self._write("on_start")

    def on_receive(self, message: ProbeMessage) -> object:
        match message:
            case Say(word):
                self.diary.lines.append(word)
                return word
            case Raise(error):
                raise error
            case Hold(begun, release):
                begun.set()
                release.get(timeout=DEADLINE_S)
            case Bear(diary):
                return self.spawn(ThreadProbe, diary)
            case Later(delay_s, word):
                return self.tell_later(delay_s, Say(word))
            case Leave():
                self.stop()
        return None


class LoopProbe(Hooked, LoopActor[ProbeMessage]):
    """A probe on the event loop."""

    mailbox_bound = 5

    async def on_start(self) -> None:
        if self.diary.gate is not None:
            await self.diary.gate
        self._write("on_start")

    async def on_receive(self, message: ProbeMessage) -> object:
        match message:
            case Say(word):
                self.diary.lines.append(word)
                return word
            case Raise(error):
                raise error
            case Hold(begun, release):
                begun.set()
                await release
            case Bear(diary):
                return self.spawn(LoopProbe, diary)
            case Later(delay_s, word):
                return self.tell_later(delay_s, Say(word))
            case Leave():
                self.stop()
        return None


Start: TypeAlias = Callable[[Diary], ProbeRef]
on_both_seats = pytest.mark.parametrize("start", [ThreadProbe.start, LoopProbe.start], ids=["thread", "loop"])


class Watcher(LoopActor[Terminated]):
    """Hands on what it is told of others' ends."""

    def __init__(self, ends: asyncio.Queue[Terminated]) -> None:
        super().__init__()
        self._ends = ends

    def on_receive(self, message: Terminated) -> None:
        self._ends.put_nowait(message)


class Listener(logging.Handler):
    """Notes when a line with certain words is logged; a context."""

    def __init__(self, logger: str, words: str) -> None:
        super().__init__()
        self.heard: Future[None] = Future()
        self._logger, self._words = logging.getLogger(logger), words

    def emit(self, record: logging.LogRecord) -> None:
        if self._words in record.getMessage() and not self.heard.is_done():
            self.heard.set()

    def __enter__(self) -> Self:
        self._logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)


@dataclass
class Clock:
    """In the place of a loop's own."""

    now: float

    def __call__(self) -> float:
        return self.now


async def held(ref: ProbeRef) -> Hold:
    """Have an actor busy until the hold is released."""
    hold = Hold()
    ref.tell(hold)
    await soon(hold.begun)
    return hold


async def ended(*refs: Ref[Never]) -> None:
    """Wait until all of them have ended."""
    for ref in refs:
        await soon(ref.ended)


async def stop(*refs: Ref[Never]) -> None:
    """End them in order."""
    for ref in refs:
        await soon(ref.stop(block=False))
