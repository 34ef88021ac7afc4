"""Which connections of a bound socket live, from ZeroMQ's own events: how a lost peer is noticed."""

from collections.abc import Callable
from itertools import count
from typing import NewType

import zmq

from bus.monitor import Doorman, Monitor
from bus.port import Frames

ConnectionId = NewType("ConnectionId", int)
"""One TCP connection, counted from the start of the socket: file descriptors are used again."""


class Connections:
    """Watches a bound socket. To be made before anybody knows its port, and closed before it."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        socket: zmq.Socket[bytes],
        lost: Callable[[ConnectionId], None],
        doorman: Doorman | None = None,
    ) -> None:
        """`lost` is called for each connection that ended, however it ended; then it is to be dropped."""
        self._lost = lost
        self._doorman = doorman
        self._numbers = count(1)
        self._known: dict[int, ConnectionId] = {}
        self._monitor = Monitor(context, socket, self._hear)

    def of(self, frames: Frames) -> ConnectionId | None:
        """The connection that a message came over, which may have ended; None: it was dropped."""
        descriptor = frames[-1].get(zmq.SRCFD)
        if descriptor not in self._known:
            self._monitor.pump()
        return self._known.get(descriptor)

    def drop(self, connection: ConnectionId) -> None:
        """Nothing more is to come over a connection that ended."""
        for descriptor, known in tuple(self._known.items()):
            if known == connection:
                del self._known[descriptor]

    def close(self) -> None:
        self._monitor.close()

    def _hear(self, event: int, value: int) -> None:
        if self._doorman is not None:
            self._doorman.hear(event, value)
        if event == zmq.EVENT_ACCEPTED:
            self._known[value] = ConnectionId(next(self._numbers))
        elif event == zmq.EVENT_DISCONNECTED and value in self._known:
            self._lost(self._known[value])
