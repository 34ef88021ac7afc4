"""The other end of a node's ROUTER, in an engine process or in a reader of facts."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Final, Self

import zmq

from bus.conversation import Conversation
from bus.counts import Count, Counts
from bus.messages.envelope import Body, Envelope
from bus.messages.generation import Refusal
from bus.port import Frames, Port, Sent
from bus.sockets import DEFAULTS, Limits, connect, open_socket

LINGER_S: Final = 0.2
"""How long last words may take: far more than over loopback to a node that lives."""


class Dealer:
    """Connects to one ROUTER, again and again if need be. To be used on one loop's thread only.

    What is sent while there is no connection waits, in order and within limits, for the next one.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        identity: bytes,
        receive: Callable[[Body], Refusal | None],
        counts: Counts,
        limits: Limits,
    ) -> None:
        self._closing = ExitStack()
        self.counts = counts
        self._node = f"the node at {endpoint}"
        self._conversation = Conversation(
            self._node, counts, send=self._send, receive=lambda body: _ignore(receive(body)), answer=receive
        )
        socket = open_socket(context, zmq.DEALER, limits)
        socket.setsockopt(zmq.ROUTING_ID, identity)
        connect(socket, endpoint)
        self._port = Port(socket, self._hear)

    @classmethod
    def connect(
        cls,
        endpoint: str,
        identity: bytes,
        receive: Callable[[Body], Refusal | None],
        *,
        limits: Limits = DEFAULTS,
    ) -> Self:
        """Connect, with a ZeroMQ context of its own, on the running loop.

        `receive` is called on that loop for each command and notice; what it returns answers a command (None:
        done) and means nothing for a notice. Raises ValueError for what is no endpoint.
        """
        with ExitStack() as opened:
            context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
            opened.callback(context.term)
            dealer = cls(context, endpoint, identity, receive, Counts(), limits)
            dealer._closing = opened.pop_all()
        return dealer

    def notify(self, body: Body) -> bool:
        """Tell the node; False: not sent, for too much waits already. Raises TooLarge."""
        return self._conversation.notify(body)

    async def command(self, body: Body, timeout_s: float) -> None:
        """Have the node do something. Raises Refused, QueueFull, CommandTimeout or TooLarge."""
        await self._conversation.command(body, timeout_s)

    def close(self, linger_s: float = LINGER_S) -> None:
        """Fail what waits, let last words go out, which takes no longer than this, and close every socket."""
        self._conversation.end("this end was closed")
        self._port.close(linger_s)
        self._closing.close()

    def _send(self, envelope: Envelope, data: bytes) -> Sent:
        return Sent.GONE if self._port.closed else self._port.send((data,))

    def _hear(self, frames: Frames) -> None:
        if len(frames) == 1:
            self._conversation.take(frames[0].buffer)
        else:
            self.counts.drop(Count.MALFORMED, self._node, f"{len(frames)} frames instead of one")


def _ignore(refusal: Refusal | None) -> None:
    """A notice has no answer."""
