"""Readers of facts that a test can wait for, and that can be made to lose what they hear."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager

import zmq

from bus.bus import Bus, new_identity
from bus.counts import Counts
from bus.dealer import Dealer
from bus.messages.envelope import Body
from bus.messages.facts import Fact, Snapshot, Updates
from bus.port import Frames
from bus.reader import FactReader
from bus.replica import Change
from bus.sockets import Limits
from tests.bus.conftest import BRISK
from tests.bus.ends import DEADLINE_S


class Lossy(FactReader):
    """Loses a share of what is published at its very border."""

    loss = 0.0
    lost = 0

    def hear(self, frames: Frames) -> None:
        if random.random() < self.loss:
            self.lost += 1
        else:
            super().hear(frames)


class Follower:
    """A reader of a bus, with a context of its own, that a test can wait for."""

    def __init__(self, facts: str, commands: str, identity: bytes, limits: Limits = BRISK) -> None:
        self.counts = Counts()
        self.facts: dict[str, Fact] = {}
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._changed = asyncio.Event()
        self._desk = Dealer(self._context, commands, identity, self._mend, self.counts, limits)
        self.reader = Lossy(self._context, facts, self._desk.notify, self._apply, self.counts, limits)

    def _mend(self, body: Body) -> None:
        assert isinstance(body, Updates | Snapshot)
        self.reader.mend(body)

    def _apply(self, changes: tuple[Change, ...]) -> None:
        for key, fact in changes:
            if fact is None:
                del self.facts[key]
            else:
                self.facts[key] = fact
        self._changed.set()

    async def holds(self, facts: dict[str, Fact]) -> None:
        """Wait until it holds exactly these."""
        async with asyncio.timeout(DEADLINE_S):
            while self.facts != facts:
                self._changed.clear()
                await self._changed.wait()

    def close(self) -> None:
        self.reader.close()
        self._desk.close(linger_s=0)
        self._context.term()


@contextmanager
def following(bus: Bus, limits: Limits = BRISK) -> Iterator[Follower]:
    identity = new_identity()
    bus.serve(identity)
    follower = Follower(bus.facts_endpoint, bus.commands_endpoint, identity, limits)
    try:
        yield follower
    finally:
        follower.close()
