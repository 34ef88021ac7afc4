"""From one rank to another: a header and, with most of them, the hidden states that it is about."""

from dataclasses import dataclass
from typing import Final, Protocol

import mlx.core as mx
import numpy
import zmq

from engine.inbox import Bell

MOST_UNSENT: Final = 64
"""Messages that a slow rank may be behind before those that feed it wait: many steps of every lane."""

_DTYPES: Final = {
    str(dtype): dtype for dtype in (mx.float32, mx.float16, mx.bfloat16, mx.float64, mx.int32, mx.uint32)
}


class Interrupted(Exception):
    """There is something to do that is not from another rank."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """What one rank sends to another. `hidden`: [batch, tokens, width], or None."""

    header: bytes
    hidden: mx.array | None = None


class Carrier(Protocol):
    """How an array gets to the other side. A header, its shape and type always travel over ZeroMQ, where
    waiting costs nothing."""

    def frames(self, array: mx.array) -> list[memoryview]:
        """What is sent along with the header."""

    def push(self, array: mx.array) -> None:
        """Send it by another way, once the other side knows that it comes."""

    def receive(self, shape: tuple[int, ...], dtype: mx.Dtype, frames: list[zmq.Frame]) -> mx.array: ...


class Inband:
    """As another frame of the same message: bytes as they are, whatever the type."""

    def frames(self, array: mx.array) -> list[memoryview]:
        flat = mx.contiguous(array).view(mx.uint8)
        mx.eval(flat)
        return [numpy.asarray(flat).data]

    def push(self, array: mx.array) -> None:
        """It is there already."""

    def receive(self, shape: tuple[int, ...], dtype: mx.Dtype, frames: list[zmq.Frame]) -> mx.array:
        flat = mx.array(numpy.frombuffer(frames[0].buffer, numpy.uint8))
        return flat.view(dtype).reshape(shape)


class Collective:
    """Through a group of `mx.distributed`, from rank to rank: what RDMA is used by."""

    def __init__(
        self, group: mx.distributed.Group, *, source: int | None = None, target: int | None = None
    ) -> None:
        self._group = group
        self._source = source
        self._target = target

    def frames(self, array: mx.array) -> list[memoryview]:
        return []

    def push(self, array: mx.array) -> None:
        assert self._target is not None
        mx.eval(mx.distributed.send(array, self._target, group=self._group))

    def receive(self, shape: tuple[int, ...], dtype: mx.Dtype, frames: list[zmq.Frame]) -> mx.array:
        assert self._source is not None
        array = mx.distributed.recv(shape, dtype, self._source, group=self._group)
        mx.eval(array)
        return array


class Hop(Protocol):
    """One direction between two ranks."""

    def send(self, parcel: Parcel) -> None: ...


class Outlet:
    """A rank's way to another rank's inlet."""

    def __init__(self, socket: "zmq.Socket[bytes]", carrier: Carrier | None = None) -> None:
        self._socket = socket
        self._carrier = carrier or Inband()

    def send(self, parcel: Parcel) -> None:
        """Waits while the other rank is too far behind."""
        frames: list[bytes | memoryview] = [parcel.header]
        if parcel.hidden is not None:
            shape = numpy.array(parcel.hidden.shape, numpy.int64).tobytes()
            frames += [str(parcel.hidden.dtype).encode(), shape, *self._carrier.frames(parcel.hidden)]
        self._socket.send_multipart(frames, copy=False)
        if parcel.hidden is not None:
            self._carrier.push(parcel.hidden)

    def close(self) -> None:
        self._socket.close()


class Inlet:
    """The one place where a rank takes what others send it."""

    def __init__(self, socket: "zmq.Socket[bytes]", bell: Bell, carrier: Carrier | None = None) -> None:
        self._socket = socket
        self._bell = bell
        self._carrier = carrier or Inband()
        self._poller = zmq.Poller()
        self._poller.register(socket, zmq.POLLIN)
        self._poller.register(bell.fileno(), zmq.POLLIN)

    def close(self) -> None:
        self._socket.close()

    def carry(self, carrier: Carrier) -> None:
        """Arrays come this way from now on."""
        self._carrier = carrier

    def poll(self) -> Parcel | None:
        """What is there already."""
        try:
            header, *rest = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return None
        if not rest:
            return Parcel(header.bytes)
        dtype, shape, *frames = rest
        lengths = tuple(int(length) for length in numpy.frombuffer(shape.buffer, numpy.int64))
        return Parcel(header.bytes, self._carrier.receive(lengths, _DTYPES[dtype.bytes.decode()], frames))

    def receive(self) -> Parcel:
        """The next parcel; raises Interrupted if the bell rings first."""
        while (parcel := self.poll()) is None:
            self.wait()
        return parcel

    def wait(self) -> None:
        """Until there is a parcel; raises Interrupted if the bell rings first."""
        for ready, _ in self._poller.poll():
            if ready == self._bell.fileno():
                self._bell.silence()
                raise Interrupted
