"""Supervised probes: who started and ended when, and each new life as it comes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pykka

from actors.kernel.directory import Directory, Name
from actors.kernel.reference import Ref
from actors.kernel.restarts import Intensity, Restart, Strategy
from actors.kernel.supervision import AnyChild, Child, Supervising, Supervisor
from bus.backoff import Backoff
from tests.actors.probe import Diary, ProbeMessage, ProbeRef, Start, soon

A: Name[ProbeMessage] = Name("a")
B: Name[ProbeMessage] = Name("b")
C: Name[ProbeMessage] = Name("c")

QUICK = Intensity(restarts=3, period_s=3600.0, backoff=Backoff(0.0, 0.0))
"""Restarts at once, three times in all."""


@dataclass(frozen=True)
class Enlist:
    """Supervise one more."""

    child: AnyChild


@dataclass(frozen=True)
class Dismiss:
    """Supervise that one no more; answered with whether there was one."""

    name: str


class Captain(Supervisor[Enlist | Dismiss]):
    """A supervisor that takes on and lets go."""

    def on_message(self, message: Enlist | Dismiss) -> object:
        match message:
            case Enlist(child):
                self.supervise(child)
                return None
            case Dismiss(name):
                return self.release(name)


CaptainMessage = Supervising | Enlist | Dismiss
CaptainRef = Ref[CaptainMessage]


class Troop:
    """Makes children of one seat and follows them; to be used on the event loop."""

    def __init__(self, start: Start) -> None:
        self.directory = Directory()
        self.order: list[str] = []
        """ "a starts", "a ends", and so on."""
        self.overtaken = False
        """Whether one was started before another had finished its start."""
        self.prepare: Callable[[str, int], Diary] = lambda name, life: Diary()
        """Makes a diary by name and number of the life, from 1. An error in it is one in the constructor."""
        self._start_probe = start
        self._lives: dict[str, asyncio.Queue[ProbeRef]] = {name: asyncio.Queue() for name in (A, B, C)}
        self._count: Counter[str] = Counter()
        self._last: ProbeRef | None = None
        self._loop = asyncio.get_running_loop()

    def child(
        self,
        name: Name[ProbeMessage],
        restart: Restart = Restart.PERMANENT,
        *,
        start_within_s: float = 10.0,
        stop_within_s: float = 5.0,
    ) -> Child[ProbeMessage]:
        return Child(name, partial(self._start, name), restart, start_within_s, stop_within_s)

    async def next_life(self, name: Name[ProbeMessage]) -> ProbeRef:
        """The next one under that name that comes through its start."""
        while True:
            ref = await soon(self._lives[name].get())
            try:
                await soon(ref.started)
            except pykka.ActorDeadError:
                continue
            return ref

    async def next_lives(self) -> tuple[ProbeRef, ProbeRef, ProbeRef]:
        return await self.next_life(A), await self.next_life(B), await self.next_life(C)

    def _start(self, name: Name[ProbeMessage]) -> ProbeRef:
        self._count[name] += 1
        diary = self.prepare(name, self._count[name])
        if self._last is not None and self._last.is_alive() and not self._last.started.is_done():
            self.overtaken = True
        self._last = ref = self._start_probe(diary)
        self.order.append(f"{name} starts")
        ref.ended.when_done(lambda: self.order.append(f"{name} ends"))
        self._loop.call_soon_threadsafe(self._lives[name].put_nowait, ref)
        return ref


def start_three(troop: Troop, strategy: Strategy = Strategy.ONE_FOR_ONE) -> CaptainRef:
    children = (troop.child(name) for name in (A, B, C))
    return Captain.start(*children, strategy=strategy, intensity=QUICK, directory=troop.directory)


async def caught_up(captain: CaptainRef) -> None:
    """Wait until it has handled what it was told before, and what it told itself when it handled that."""
    for _ in range(2):
        assert await captain.request(Dismiss("nobody")) is False
