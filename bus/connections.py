"""Which connections of a bound socket live, from ZeroMQ's own events: how a lost peer is noticed."""

import struct
from collections.abc import Callable, Sequence
from itertools import count
from typing import Final, NewType

import zmq

from bus.port import Frames, Port

ConnectionId = NewType("ConnectionId", int)
"""One TCP connection, counted from the start of the socket: file descriptors are used again."""

_EVENTS: Final = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED


class Connections:
    """Watches a bound socket. To be made before anybody knows its port, and closed before it."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        socket: zmq.Socket[bytes],
        lost: Callable[[ConnectionId], None],
    ) -> None:
        """`lost` is called for each connection that ended, however it ended; then it is to be dropped."""
        self._socket = socket
        self._lost = lost
        self._numbers = count(1)
        self._known: dict[int, ConnectionId] = {}
        self._port = Port(_monitor(context, socket), self._hear)

    def of(self, frames: Frames) -> ConnectionId | None:
        """The connection that a message came over, which may have ended; None: it was dropped."""
        descriptor = frames[-1].get(zmq.SRCFD)
        if descriptor not in self._known:
            self._port.pump()
        return self._known.get(descriptor)

    def drop(self, connection: ConnectionId) -> None:
        """Nothing more is to come over a connection that ended."""
        for descriptor, known in tuple(self._known.items()):
            if known == connection:
                del self._known[descriptor]

    def close(self) -> None:
        if self._port.closed:
            return
        # Before its listener goes: ZeroMQ's thread would wait for one, and this one for that thread.
        # And at all: without it, the next socket made in the context may receive nothing.
        self._socket.disable_monitor()
        self._port.close()

    def _hear(self, frames: Frames) -> None:
        event, descriptor = _parse([frame.bytes for frame in frames])
        if event == zmq.EVENT_ACCEPTED:
            self._known[descriptor] = ConnectionId(next(self._numbers))
        elif event == zmq.EVENT_DISCONNECTED and descriptor in self._known:
            self._lost(self._known[descriptor])


def _monitor(context: zmq.Context[zmq.Socket[bytes]], socket: zmq.Socket[bytes]) -> zmq.Socket[bytes]:
    """A socket that receives the other one's events."""
    endpoint = f"inproc://connections-{socket.fileno()}"
    socket.monitor(endpoint, _EVENTS)
    listener = context.socket(zmq.PAIR)
    listener.setsockopt(zmq.LINGER, 0)
    # No limit: a full queue would stop ZeroMQ's thread, and every heartbeat with it.
    listener.setsockopt(zmq.RCVHWM, 0)
    listener.connect(endpoint)
    return listener


def _parse(frames: Sequence[bytes]) -> tuple[int, int]:
    """Event and value: a u16 and an i32 in the machine's own byte order, as in zmq_socket_monitor(3)."""
    event, value = struct.unpack("=Hi", frames[0])
    return event, value
