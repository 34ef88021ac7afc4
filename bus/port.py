"""A ZeroMQ socket on an asyncio loop: frames come in by callback, and go out at once or are refused.

`loop.add_reader` and draining receive ten times more messages than `await socket.recv()` of zmq.asyncio.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Final, TypeAlias

import zmq

logger = logging.getLogger(__name__)

BATCH: Final = 256
"""Messages handled before other tasks get a turn."""

Frames: TypeAlias = list[zmq.Frame]


class Sent(Enum):
    """What became of a message that was to be sent."""

    QUEUED = auto()
    FULL = auto()
    """The peer does not keep up: its queue is at its limit."""
    GONE = auto()
    """No such peer is connected."""


class Port:
    """Owns a socket. To be used on the loop's thread only: ZeroMQ sockets are not thread-safe."""

    def __init__(self, socket: zmq.Socket[bytes], receive: Callable[[Frames], None]) -> None:
        """`receive` is called for each message, and is expected not to raise."""
        self._socket = socket
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._fd = socket.fileno()
        self._woken = False
        self._loop.add_reader(self._fd, self.pump)
        self._wake()

    def send(self, frames: Sequence[bytes]) -> Sent:
        """Hand a message to ZeroMQ without waiting."""
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return Sent.FULL
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            return Sent.GONE
        finally:
            # The file descriptor is edge-triggered, and a send may have swallowed the edge of an arrival.
            if int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                self._wake()
        return Sent.QUEUED

    def pump(self) -> bool:
        """Receive what has arrived; False: a batch was not enough, and the rest comes in the next turn."""
        self._woken = False
        for _ in range(BATCH):
            if self._socket.closed:
                return True
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return True
            try:
                self._receive(frames)
            except Exception:
                # An exception out of here would leave the rest unread until the next edge.
                logger.exception("A message could not be handled")
        self._wake()
        return False

    def close(self, linger_s: float = 0.0) -> None:
        """What is not sent yet has so long to go, after which closing the context no longer waits for it."""
        if not self._socket.closed:
            self._loop.remove_reader(self._fd)
            self._socket.close(linger=round(linger_s * 1000))

    @property
    def closed(self) -> bool:
        return self._socket.closed

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            self._loop.call_soon(self.pump)
