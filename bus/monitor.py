"""What ZeroMQ's own thread tells of a socket's connections: made, refused, ended."""

import os
import socket as sockets
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import zmq

from bus.counts import Count, Counts
from bus.port import Frames, Port

ALL_EVENTS: Final = (
    zmq.EVENT_ACCEPTED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)


class Monitor:
    """Hears a socket's events. To be made before it is bound or connected, and closed before it is."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        socket: zmq.Socket[bytes],
        hear: Callable[[int, int], None],
    ) -> None:
        """`hear` is called on the loop with each event and its value: a file descriptor, or an error."""
        self._socket = socket
        self._hear = hear
        endpoint = f"inproc://monitor-{socket.fileno()}"
        socket.monitor(endpoint, ALL_EVENTS)
        listener = context.socket(zmq.PAIR)
        listener.setsockopt(zmq.LINGER, 0)
        # No limit: a full queue would stop ZeroMQ's thread, and every heartbeat with it.
        listener.setsockopt(zmq.RCVHWM, 0)
        listener.connect(endpoint)
        self._port = Port(listener, self._take)

    def pump(self) -> None:
        """Hear now what has happened."""
        self._port.pump()

    def close(self) -> None:
        if self._port.closed:
            return
        # Before its listener goes: ZeroMQ's thread would wait for one, and this one for that thread.
        # And at all: without it, the next socket made in the context may receive nothing.
        self._socket.disable_monitor()
        self._port.close()

    def _take(self, frames: Frames) -> None:
        # A u16 and an i32 in the machine's own byte order, as in zmq_socket_monitor(3).
        event, value = struct.unpack("=Hi", frames[0].bytes)
        self._hear(event, value)


class Doorman:
    """Counts who was turned away from a secured socket before the gate: no key, or not even our protocol."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._callers: dict[int, str] = {}
        self._failing = False

    def hear(self, event: int, value: int) -> None:
        """An event of the socket, in the order in which they happen."""
        if event == zmq.EVENT_ACCEPTED:
            self._callers[value] = _caller(value)
        elif event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            # It hung up first, as who has no key may do, and who is killed: no reason to tell anybody.
            self._counts.add(Count.REFUSED_JOINS)
        elif event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            # Who it was is told by the next event: both come from one call in ZeroMQ's thread.
            self._failing = True
        elif event == zmq.EVENT_DISCONNECTED:
            caller = self._callers.pop(value, "an unknown address")
            if self._failing:
                self._counts.refuse(caller, "it showed no key, or another one")
            self._failing = False


def _caller(descriptor: int) -> str:
    """The address at the other end of a connection, which may have ended since."""
    with suppress(OSError):
        with sockets.socket(fileno=os.dup(descriptor)) as connection:
            return str(connection.getpeername()[0])
    return "an unknown address"
