"""The other end of a node's ROUTER: in an engine process, in a reader of facts, in another node."""

from collections.abc import Callable
from contextlib import ExitStack
from enum import Enum, auto
from typing import Final, Self

import zmq

from bus.conversation import Answered, Conversation
from bus.counts import Count, Counts
from bus.keys import Keys, secure_client
from bus.messages.envelope import Body, Envelope
from bus.monitor import Monitor
from bus.port import Frames, Port, Sent
from bus.sockets import OF_AN_ENGINE, Limits, connect, open_socket
from bus.traffic import Meter

LINGER_S: Final = 0.2
"""How long last words may take: far more than over loopback to a node that lives."""


class Line(Enum):
    """What became of the connection."""

    UP = auto()
    DOWN = auto()
    REFUSED = auto()
    """The other end has another key, or is none of ours; ZeroMQ may try no further."""
    CUT = auto()
    """The other end hung up before the handshake was done: it may have another key."""


_LINES: Final = {
    zmq.EVENT_HANDSHAKE_SUCCEEDED: Line.UP,
    zmq.EVENT_DISCONNECTED: Line.DOWN,
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: Line.REFUSED,
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: Line.REFUSED,
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: Line.CUT,
}


class Dealer:
    """Connects to one ROUTER, again and again if need be. To be used on one loop's thread only.

    What is sent while there is no connection waits, in order and within limits, for the next one.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        identity: bytes,
        receive: Callable[[Body], Answered],
        counts: Counts,
        limits: Limits,
        *,
        keys: Keys | None = None,
        watch: Callable[[Line], None] | None = None,
        name: str = "",
    ) -> None:
        """`watch` is called when the connection is made, lost or refused. Else as `connect`."""
        self._closing, self._ended = ExitStack(), ExitStack()
        self.counts = counts
        self._node = name or f"the node at {endpoint}"
        self._conversation = Conversation(
            self._node, counts, send=self._send, receive=lambda body: _ignore(receive(body)), answer=receive
        )
        socket = open_socket(context, zmq.DEALER, limits)
        socket.setsockopt(zmq.ROUTING_ID, identity)
        if keys is not None:
            secure_client(socket, keys)
        if watch is not None:
            self._closing.callback(Monitor(context, socket, _on_line(watch)).close)
        with ExitStack() as failing:
            failing.callback(self._closing.close)
            connect(socket, endpoint)
            failing.pop_all()
        self._port = Port(socket, self._hear)

    @classmethod
    def connect(
        cls,
        endpoint: str,
        identity: bytes,
        receive: Callable[[Body], Answered],
        *,
        limits: Limits = OF_AN_ENGINE,
    ) -> Self:
        """Connect as an engine does, with a ZeroMQ context of its own, on the running loop.

        `receive` is called on that loop for each command and notice; what it returns answers a command (None:
        done) and means nothing for a notice. Raises ValueError for what is no endpoint.
        """
        with ExitStack() as opened:
            context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
            opened.callback(context.term)
            dealer = cls(context, endpoint, identity, receive, Counts(), limits)
            dealer._ended = opened.pop_all()
        return dealer

    @property
    def meter(self) -> Meter:
        """What passed here."""
        return self._conversation.meter

    def notify(self, body: Body) -> bool:
        """Tell the node; False: not sent, for too much waits already. Raises TooLarge."""
        return self._conversation.notify(body)

    async def command(self, body: Body, timeout_s: float) -> Body | None:
        """Have the node do something; returns what it says to it. Raises a BusError."""
        return await self._conversation.command(body, timeout_s)

    def close(self, linger_s: float = LINGER_S, reason: str = "this end was closed") -> None:
        """Fail what waits, let last words go out, which takes no longer than this, and close every socket."""
        self._conversation.end(reason)
        self._closing.close()
        self._port.close(linger_s)
        self._ended.close()

    def _send(self, envelope: Envelope, data: bytes) -> Sent:
        return Sent.GONE if self._port.closed else self._port.send((data,))

    def _hear(self, frames: Frames) -> None:
        if len(frames) == 1:
            self._conversation.take(frames[0].buffer)
        else:
            self.counts.drop(Count.MALFORMED, self._node, f"{len(frames)} frames instead of one")


def _ignore(answered: Answered) -> None:
    """A notice has no answer."""


def _on_line(watch: Callable[[Line], None]) -> Callable[[int, int], None]:
    def hear(event: int, value: int) -> None:
        if event in _LINES:
            watch(_LINES[zmq.Event(event)])

    return hear
