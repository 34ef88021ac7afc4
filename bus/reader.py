"""Facts in: subscribes to one publisher, and asks it for what it missed until it has it."""

import asyncio
from collections.abc import Callable

import zmq

from bus.codec import News, Undecodable, decode_news
from bus.counts import Count, Counts
from bus.keys import Keys, secure_client
from bus.messages.facts import Head, Since, Snapshot, Update, Updates
from bus.port import Frames, Port
from bus.publisher import FACT_TOPIC
from bus.replica import Change, Replica
from bus.salvage import salvage_news
from bus.sockets import Limits, connect, open_socket
from bus.traffic import Meter


class FactReader:
    """Follows one publisher. To be used on the loop's thread only."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        facts_endpoint: str,
        desk: Callable[[Since], object],
        apply: Callable[[tuple[Change, ...]], None],
        counts: Counts,
        limits: Limits,
        keys: Keys | None = None,
    ) -> None:
        """`desk` asks the publisher, whose answer is for `mend`; `apply` is called with what changed."""
        self._publisher = f"the publisher at {facts_endpoint}"
        self._desk = desk
        self._apply = apply
        self._counts = counts
        self._limits = limits
        self._questions = 0
        """Asked in a row without an answer that told all."""
        self._loop = asyncio.get_running_loop()
        self._asked: asyncio.TimerHandle | None = None
        self._caught_up = asyncio.Event()
        self.replica = Replica()
        self.meter = Meter()
        socket = open_socket(context, zmq.SUB, limits)
        if keys is not None:
            secure_client(socket, keys)
        socket.subscribe(FACT_TOPIC)
        connect(socket, facts_endpoint)
        self._port = Port(socket, self.hear)
        self._ask()

    async def caught_up(self, timeout_s: float) -> None:
        """Wait until it holds all that the publisher had said so far. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            await self._caught_up.wait()

    def close(self) -> None:
        self._rest()
        self._port.close()

    def hear(self, frames: Frames) -> None:
        """Take in what was published."""
        self.meter.heard(sum(len(frame) for frame in frames))
        if len(frames) != 2 or frames[0].bytes != FACT_TOPIC:
            self._counts.drop(Count.MALFORMED, self._publisher, f"{len(frames)} frames are no fact")
            return
        news = self._decode(frames[1].buffer)
        if news is not None:
            self._take(news)

    def mend(self, answer: Updates | Snapshot) -> None:
        """Take in the answer to a question."""
        self._take(answer)
        if not self.replica.behind:
            self._rest()
            self._questions = 0

    def _decode(self, data: memoryview) -> News | None:
        try:
            return decode_news(data)
        except Undecodable as error:
            self._counts.drop(error.count, self._publisher, error.detail)
            return salvage_news(data) if error.count is Count.UNKNOWN_TYPE else None

    def _take(self, message: Update | Head | Updates | Snapshot) -> None:
        changes = self.replica.hear(message)
        if changes:
            self._apply(changes)
        if not self.replica.behind:
            self._caught_up.set()
            return
        self._caught_up.clear()
        if self._asked is None:
            self._ask()

    def _ask(self) -> None:
        """One question at a time, again and again while there is no answer."""
        self._counts.add(Count.GAPS)
        self._desk(self.replica.since())
        self._questions += 1
        self._asked = self._loop.call_later(self._limits.patience.wait_s(self._questions), self._ask)

    def _rest(self) -> None:
        if self._asked is not None:
            self._asked.cancel()
            self._asked = None
