"""Facts out: numbered updates on XPUB sockets, which know who listens, and answers to who missed some."""

import asyncio
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

import zmq

from bus.codec import News, encode
from bus.counts import Count, Counts
from bus.keys import Keys, secure_server
from bus.ledger import Ledger
from bus.messages.envelope import Passed
from bus.messages.facts import Fact, Since, Snapshot, Update, Updates
from bus.monitor import Doorman, Monitor
from bus.port import BATCH, Frames, Port
from bus.sockets import Limits, bind, open_socket
from bus.traffic import Meter

logger = logging.getLogger(__name__)

FACT_TOPIC: Final = b"fact"
PASSED_TOPIC: Final = b"passed"

_SUBSCRIBED: Final = b"\x01"
_UNSUBSCRIBED: Final = b"\x00"


class Outlet:
    """One XPUB socket on a free port, and what its subscribers want."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        host: str,
        counts: Counts,
        limits: Limits,
        joined: Callable[["Outlet"], None],
        keys: Keys | None = None,
    ) -> None:
        """`joined` is called for each new reader of facts. Raises OSError."""
        self._counts = counts
        self._joined = joined
        self._watched: set[bytes] = set()
        self.meter = Meter()
        socket = open_socket(context, zmq.XPUB, limits)
        # Hear of every new subscriber, not only of the first.
        socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        if keys is not None:
            secure_server(socket, keys)
        self.endpoint = bind(socket, host)
        self._monitor = Monitor(context, socket, Doorman(counts).hear) if keys is not None else None
        self._port = Port(socket, self._hear)

    @property
    def watching(self) -> bool:
        """Somebody wants to know what passes."""
        return bool(self._watched)

    def send(self, topic: bytes, data: bytes) -> None:
        if not self._port.closed:
            self._port.send((topic, data))
            self.meter.said(len(data))

    def close(self) -> None:
        if self._monitor is not None:
            self._monitor.close()
        self._port.close()

    def _hear(self, frames: Frames) -> None:
        """A subscription, or its end; subscribers have nothing else to say."""
        said = frames[0].bytes
        kind, topic = said[:1], said[1:]
        if len(frames) != 1 or kind not in (_SUBSCRIBED, _UNSUBSCRIBED):
            self._counts.drop(Count.MALFORMED, "a subscriber", "not a subscription")
            return
        if PASSED_TOPIC.startswith(topic):
            change = self._watched.add if kind == _SUBSCRIBED else self._watched.discard
            change(topic)
        if kind == _SUBSCRIBED and FACT_TOPIC.startswith(topic):
            self._joined(self)


class FactPublisher:
    """One ledger, told on one or more outlets. `publish` is for any thread, the rest for the loop's."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        host: str,
        session: str,
        counts: Counts,
        limits: Limits,
    ) -> None:
        self._counts = counts
        self._beat_s = limits.beat_s
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._ledger = Ledger(session, limits.kept)
        self._unsent: deque[Update] = deque(maxlen=limits.kept)
        self._flushing = False
        self._open = True
        self._context, self._limits = context, limits
        self._outlets: list[Outlet] = []
        self.endpoint = self.open(host).endpoint
        self._beating = self._loop.call_soon(self._beat)

    def open(self, host: str, keys: Keys | None = None, limits: Limits | None = None) -> Outlet:
        """Tell the same facts on one more socket, with its own limits or the same. Raises OSError."""
        outlet = Outlet(self._context, host, self._counts, limits or self._limits, self._send_head, keys)
        self._outlets.append(outlet)
        return outlet

    def publish(self, key: str, fact: Fact | None) -> None:
        """Set or withdraw a fact; readers are told if it is news, unless this is closed. Raises TooLarge."""
        # Too large a fact is its owner's to hear of, here and now.
        encode(Update(self._ledger.session, sys.maxsize, key, fact))
        with self._lock:
            update = self._ledger.set(key, fact) if self._open else None
            if update is None:
                return
            # Threads that are faster than the loop lose their oldest updates here, and readers ask for them.
            self._unsent.append(update)
            if not self._flushing:
                self._flushing = True
                self._loop.call_soon_threadsafe(self._flush)

    def answer(self, since: Since) -> Updates | Snapshot:
        """What a reader that is behind is to be told."""
        with self._lock:
            answer = self._ledger.answer(since)
        self._counts.add(Count.SNAPSHOTS if isinstance(answer, Snapshot) else Count.REPLAYS)
        return answer

    @property
    def watching(self) -> bool:
        """Somebody wants to know what passes."""
        return any(outlet.watching for outlet in self._outlets)

    def witness(self, passed: Passed) -> None:
        """Tell who watches the bus that a message went by."""
        data = encode(passed)
        for outlet in self._outlets:
            if outlet.watching:
                outlet.send(PASSED_TOPIC, data)

    def close(self) -> None:
        with self._lock:
            self._open = False
        self._beating.cancel()
        for outlet in self._outlets:
            outlet.close()

    def _flush(self) -> None:
        """Send what was published, a batch in each turn of the loop."""
        if not self._open:
            return
        with self._lock:
            batch = [self._unsent.popleft() for _ in range(min(len(self._unsent), BATCH))]
            self._flushing = bool(self._unsent)
        for update in batch:
            self._send(update)
        if self._flushing:
            self._loop.call_soon(self._flush)

    def _beat(self) -> None:
        self._send_head()
        self._beating = self._loop.call_later(self._beat_s, self._beat)

    def _send_head(self, to: Outlet | None = None) -> None:
        """To all, or to one that has a new reader, so that it learns at once that it is behind."""
        with self._lock:
            head = None if self._unsent else self._ledger.head()
        # A head that overtakes updates would have every reader ask for what is about to come.
        if head is None:
            return
        if to is not None:
            to.send(FACT_TOPIC, encode(head))
        else:
            self._send(head)

    def _send(self, news: News) -> None:
        data = encode(news)
        for outlet in self._outlets:
            outlet.send(FACT_TOPIC, data)
