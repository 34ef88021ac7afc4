"""Other ends for a bus to talk to: a peer that behaves and remembers, and raw sockets that need not."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import zmq

from bus.bus import Bus, new_identity
from bus.commands import Peer
from bus.dealer import Dealer
from bus.messages.engine import Beat, Hello
from bus.messages.envelope import Body
from bus.messages.generation import Refusal
from bus.sockets import DEFAULTS, Limits

DEADLINE_S = 30.0
"""For what takes a moment, on a machine that is busy with other things."""


class Remembers:
    """Hears what comes to one end of a conversation, and lets a test wait for it."""

    def __init__(self, refusal: Refusal | None = None) -> None:
        self.heard: list[Body] = []
        self.happened: list[str] = []
        self.refusal = refusal
        self._news = asyncio.Event()

    def receive(self, body: Body) -> None:
        self.heard.append(body)
        self._happen(type(body).__name__)

    def answer(self, body: Body) -> Refusal | None:
        self.receive(body)
        return self.refusal

    def arrived(self) -> None:
        self._happen("arrived")

    def gone(self) -> None:
        self._happen("gone")

    async def until(self, what: str, times: int = 1) -> None:
        """Wait until it has happened so often."""
        async with asyncio.timeout(DEADLINE_S):
            while self.happened.count(what) < times:
                self._news.clear()
                await self._news.wait()

    def _happen(self, what: str) -> None:
        self.happened.append(what)
        self._news.set()


def expect(bus: Bus, identity: bytes, node: Remembers, name: str = "engine 1") -> Peer:
    return bus.expect(
        identity,
        receive=node.receive,
        gone=node.gone,
        arrived=node.arrived,
        answer=node.answer,
        name=name,
    )


class Pair:
    """A peer of the bus and the Dealer that plays it, which has said hello."""

    def __init__(self, bus: Bus, limits: Limits = DEFAULTS) -> None:
        identity = new_identity()
        self.node = Remembers()
        self.engine = Remembers()
        self.peer = expect(bus, identity, self.node)
        self.dealer = Dealer.connect(bus.commands_endpoint, identity, self.engine.answer, limits=limits)
        self.dealer.notify(Hello(1))

    async def works(self) -> None:
        """Messages pass, both ways."""
        beats = self.node.happened.count("Beat")
        assert self.dealer.notify(Beat(beats))
        await self.node.until("Beat", beats + 1)
        await self.peer.command(Beat(0), DEADLINE_S)


@asynccontextmanager
async def pair_on(bus: Bus, limits: Limits = DEFAULTS) -> AsyncIterator[Pair]:
    pair = Pair(bus, limits)
    try:
        await pair.node.until("Hello")
        yield pair
    finally:
        pair.dealer.close()
        pair.peer.forget()


@contextmanager
def raw(kind: zmq.SocketType, **options: bytes | int) -> Iterator[zmq.Socket[bytes]]:
    """A bare ZeroMQ socket that waits no longer than the deadline."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(kind)
    socket.linger = 0
    socket.sndtimeo = socket.rcvtimeo = int(DEADLINE_S * 1000)
    for option, value in options.items():
        setattr(socket, option, value)
    try:
        yield socket
    finally:
        with suppress(zmq.ZMQError):
            socket.disable_monitor()
        socket.close()
        context.term()


async def received(socket: zmq.Socket[bytes]) -> list[bytes]:
    """The next message of a raw socket, without holding up the loop."""
    return await asyncio.to_thread(socket.recv_multipart)


def bound(socket: zmq.Socket[bytes]) -> str:
    """Bind a raw socket to a free port, and return the endpoint to connect to."""
    return f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}"
