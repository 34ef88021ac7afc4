"""A ROUTER of a node: directed, answered, with deadlines, and only with peers that are expected."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

import zmq

from bus.connections import ConnectionId, Connections
from bus.conversation import Answer, Conversation
from bus.counts import Count, Counts
from bus.keys import Keys, secure_server
from bus.messages.envelope import Body, Envelope, Passed, Reply
from bus.messages.generation import Refusal, RefusalCode
from bus.monitor import Doorman
from bus.port import Frames, Port, Sent
from bus.sockets import Limits, bind, open_socket

logger = logging.getLogger(__name__)

FORGOTTEN_AT_MOST: Final = 256
"""Peers that are remembered as forgotten, so that their last messages do not pass for a stranger's."""


def _no_commands(body: Body) -> Refusal:
    return Refusal(RefusalCode.INVALID, "This end takes no commands.")


def _nothing() -> None:
    """What who did not ask to be called is called with."""


class Witness(Protocol):
    """Hears of each message that goes by, while it cares to."""

    @property
    def watching(self) -> bool: ...

    def witness(self, passed: Passed) -> None: ...


class Peer:
    """One expected peer, present or not. To be used on the loop's thread only."""

    def __init__(
        self,
        identity: bytes,
        name: str,
        conversation: Conversation,
        *,
        arrived: Callable[[], None],
        gone: Callable[[], None],
        forget: Callable[["Peer"], None],
    ) -> None:
        self.identity = identity
        self.name = name
        self.conversation = conversation
        self.connection: ConnectionId | None = None
        self._arrived = arrived
        self._gone = gone
        self._forget = forget

    def __repr__(self) -> str:
        return f"<Peer {self.name} {'present' if self.present else 'absent'}>"

    @property
    def present(self) -> bool:
        """It has been heard, and its connection lives: from then on it can be told things."""
        return self.connection is not None

    async def command(self, body: Body, timeout_s: float) -> Body | None:
        """Have the peer do something; returns what it says to it.

        Raises Refused, PeerGone, QueueFull, CommandTimeout or TooLarge.
        """
        return await self.conversation.command(body, timeout_s)

    def notify(self, body: Body) -> bool:
        """Tell the peer; False: not sent, it is gone or does not keep up. Raises TooLarge."""
        return self.conversation.notify(body)

    def forget(self) -> None:
        """Expect it no longer: fails its open commands, and drops what it still says."""
        self.connection = None
        self.conversation.end("no longer expected")
        self._forget(self)

    def enter(self, connection: ConnectionId) -> None:
        if self.present:
            self.leave("it connected anew")
        self.connection = connection
        logger.debug("%s is here", self.name)
        self.conversation.guard("Its arrival", self._arrived)

    def leave(self, reason: str) -> None:
        self.connection = None
        logger.debug("%s is gone: %s", self.name, reason)
        self.conversation.end(reason)
        self.conversation.guard("Its end", self._gone)


class CommandRouter:
    """Binds a ROUTER on a port. To be used on the loop's thread only."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        host: str,
        counts: Counts,
        limits: Limits,
        witness: Witness,
        *,
        port: int = 0,
        keys: Keys | None = None,
        admit: Callable[[bytes, Frames], bool] | None = None,
    ) -> None:
        """Who connects must have the `keys`. `admit` may expect whom nobody expects; False: it does not."""
        self._counts = counts
        self._witness = witness
        self._admit = admit
        self._loop = asyncio.get_running_loop()
        self._peers: dict[bytes, Peer] = {}
        self._forgotten: deque[bytes] = deque(maxlen=FORGOTTEN_AT_MOST)
        socket = open_socket(context, zmq.ROUTER, limits)
        # Without it, what is sent to a peer that is gone or full vanishes in silence.
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        # A peer that reconnects before its old connection is known to be dead would be mute.
        socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        if keys is not None:
            secure_server(socket, keys)
        self.endpoint = bind(socket, host, port)
        doorman = Doorman(counts) if keys is not None else None
        self._connections = Connections(context, socket, self._lost, doorman)
        self._port = Port(socket, self._hear)

    def expect(
        self,
        identity: bytes,
        *,
        receive: Callable[[Body], None],
        gone: Callable[[], None] | None = None,
        arrived: Callable[[], None] | None = None,
        answer: Callable[[Body], Answer] | None = None,
        name: str = "",
    ) -> Peer:
        """As `Bus.expect`, which says what these are for."""
        if identity in self._peers:
            raise ValueError(f"{self._peers[identity].name} has this routing id already")
        # Not the whole of it: who knows a routing id can take its peer's place.
        name = name or f"peer {identity[:4].hex()}"
        conversation = Conversation(
            name,
            self._counts,
            send=lambda envelope, data: self._send(peer, envelope, data),
            receive=receive,
            answer=answer or _no_commands,
        )
        peer = Peer(
            identity,
            name,
            conversation,
            arrived=arrived or _nothing,
            gone=gone or _nothing,
            forget=self._forget,
        )
        self._peers[identity] = peer
        return peer

    def close(self) -> None:
        for peer in tuple(self._peers.values()):
            peer.forget()
        self._connections.close()
        self._port.close()

    def _send(self, peer: Peer, envelope: Envelope, data: bytes) -> Sent:
        # ZeroMQ may take messages for a connection that has just ended, and nobody would ever answer them.
        if not peer.present:
            return Sent.GONE
        sent = self._port.send((peer.identity, data))
        if sent is Sent.QUEUED:
            self._report(peer, envelope, len(data), outgoing=True)
        return sent

    def _hear(self, frames: Frames) -> None:
        identity = frames[0].bytes
        if identity not in self._peers and self._admit is not None and not self._admit(identity, frames):
            return
        peer = self._peers.get(identity)
        if peer is None:
            self._turn_away(identity)
            return
        if len(frames) != 2:
            self._counts.drop(Count.MALFORMED, peer.name, f"{len(frames) - 1} frames instead of one")
            return
        connection = self._connections.of(frames)
        if connection is not None and connection != peer.connection:
            peer.enter(connection)
        envelope = peer.conversation.take(frames[1].buffer)
        if envelope is not None:
            self._report(peer, envelope, len(frames[1]), outgoing=False)

    def _turn_away(self, identity: bytes) -> None:
        if identity in self._forgotten:
            self._counts.add(Count.LATE)
        else:
            shown = identity[:16].hex()
            self._counts.drop(Count.STRANGER, "a stranger", f"routing id {shown} is not expected")

    def _lost(self, connection: ConnectionId) -> None:
        self._counts.add(Count.DISCONNECTED)
        self._loop.call_soon(self._leave, connection)

    def _leave(self, connection: ConnectionId) -> None:
        if self._port.closed:
            return
        if not self._port.pump():
            # Its last words may still be queued.
            self._loop.call_soon(self._leave, connection)
            return
        self._connections.drop(connection)
        for peer in tuple(self._peers.values()):
            if peer.connection == connection:
                peer.leave("its connection ended")

    def _forget(self, peer: Peer) -> None:
        if self._peers.get(peer.identity) is peer:
            del self._peers[peer.identity]
            self._forgotten.append(peer.identity)

    def _report(self, peer: Peer, envelope: Envelope, size_bytes: int, *, outgoing: bool) -> None:
        if self._witness.watching:
            said = envelope if isinstance(envelope, Reply) else envelope.body
            self._witness.witness(Passed(peer.name, outgoing, type(said).__name__, size_bytes))
