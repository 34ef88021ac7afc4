"""A node's sockets together: opened, used and closed as one."""

import asyncio
import logging
import secrets
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Final, Self

import zmq

from bus.cluster import Cluster, parse
from bus.commands import CommandRouter, Peer
from bus.conversation import Answer
from bus.counts import Counts
from bus.dealer import Dealer
from bus.discovery import Discovery
from bus.keys import Keys, ZapGate
from bus.mesh import Mesh
from bus.messages.base import NodeId
from bus.messages.envelope import Body
from bus.messages.facts import Fact, Since, Snapshot, Updates
from bus.publisher import FactPublisher
from bus.reader import FactReader
from bus.sockets import DEFAULTS, Limits
from bus.view import ClusterView

logger = logging.getLogger(__name__)

OPENING_S: Final = 10.0
"""How long the bus may take to hear itself; it takes milliseconds."""

QUESTIONS_AT_MOST: Final = 4
"""Questions of its own reader that may wait: each will be answered with a snapshot."""


def new_identity() -> bytes:
    """A routing id that nobody guesses."""
    # ZeroMQ keeps those that begin with 0 for itself.
    return b"\x01" + secrets.token_bytes(16)


class Bus:
    """One per node, on the event loop's thread; `publish`, `withdraw` and `view.facts` are for any thread."""

    def __init__(
        self, node: NodeId, host: str, limits: Limits, cluster: Cluster | None, keys: Keys | None
    ) -> None:
        """Use `open`."""
        self.node = node
        self.keys = keys
        """What members of the cluster know each other by; None: this node is alone."""
        self.mesh: Mesh | None = None
        """The other nodes; None: this node is alone."""
        self._discovery: Discovery | None = None
        self.counts = Counts()
        self.view = ClusterView()
        with ExitStack() as opened:
            context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
            opened.callback(context.term)
            if keys is not None:
                opened.callback(ZapGate(context, keys, self.counts).close)
            session = f"{node}/{secrets.token_hex(8)}"
            self._publisher = FactPublisher(context, host, session, self.counts, limits)
            opened.callback(self._publisher.close)
            patient = replace(limits, silence_ms=limits.engine_silence_ms)
            self._router = CommandRouter(context, host, self.counts, patient, self._publisher)
            opened.callback(self._router.close)
            self._reader = self._follow_itself(context, limits, opened)
            if cluster is not None and keys is not None:
                of_the_cluster = (self._publisher, self.view, self.counts, limits)
                self.mesh = Mesh(context, node, cluster, keys, *of_the_cluster)
                if cluster.mdns:
                    self._discovery = Discovery(
                        node, cluster, keys, self.mesh.address, self.mesh.add, self.counts
                    )
            self._closing = opened.pop_all()

    @classmethod
    async def open(
        cls,
        node: NodeId,
        host: str = "127.0.0.1",
        *,
        limits: Limits = DEFAULTS,
        cluster: Cluster | None = None,
    ) -> Self:
        """Bind on free TCP ports of `host`, for this machine, and follow this node's own facts.

        With `cluster`, also bind where that says, for other nodes, and begin to call and to find them. Raises
        OSError for what cannot be bound, and ValueError for a peer that is no address or an empty secret.
        """
        keys = None
        if cluster is not None:
            for peer in cluster.peers:
                parse(peer)
            keys = await asyncio.to_thread(Keys.of, cluster.secret)
        bus = cls(node, host, limits, cluster, keys)
        try:
            await bus._reader.caught_up(OPENING_S)
        except BaseException:
            await bus.close()
            raise
        if bus.mesh is not None:
            bus.mesh.start()
        if bus._discovery is not None:
            bus._discovery.start()
        logger.debug("Facts on %s, commands on %s", bus.facts_endpoint, bus.commands_endpoint)
        return bus

    @property
    def facts_endpoint(self) -> str:
        """Where facts can be subscribed to: topics `fact` and `passed`, two frames each."""
        return self._publisher.endpoint

    @property
    def commands_endpoint(self) -> str:
        """Where a Dealer connects to."""
        return self._router.endpoint

    @property
    def watched(self) -> bool:
        """Somebody subscribes to what passes."""
        return self._publisher.watching

    def publish(self, key: str, fact: Fact) -> None:
        """Set one of this node's facts; told to readers if it is news. Raises TooLarge. From any thread."""
        self._publisher.publish(key, fact)

    def withdraw(self, key: str) -> None:
        """Take one of this node's facts back; no harm if there is none. From any thread."""
        self._publisher.publish(key, None)

    def expect(
        self,
        identity: bytes,
        *,
        receive: Callable[[Body], None],
        gone: Callable[[], None],
        arrived: Callable[[], None] | None = None,
        answer: Callable[[Body], Answer] | None = None,
        name: str = "",
    ) -> Peer:
        """Admit the Dealer with this routing id, from before it connects until `peer.forget()`.

        `receive` gets its notices and `answer` its commands (None: done; a message: done, and that to say;
        without it each is refused), on the loop, one at a time, in the order of sending. An answer that is
        awaited may come after later ones. `arrived` is called before the first message over a new
        connection, and `gone` when that connection has ended, after its last message.
        """
        return self._router.expect(
            identity, receive=receive, gone=gone, arrived=arrived, answer=answer, name=name
        )

    def serve(self, identity: bytes, name: str = "") -> Peer:
        """Admit a reader of facts: it may ask for what it missed."""

        def receive(body: Body) -> None:
            if isinstance(body, Since):
                peer.notify(self._publisher.answer(body))

        peer = self._router.expect(identity, receive=receive, name=name)
        return peer

    async def close(self) -> None:
        """Close every socket: what was not sent yet is lost, and open commands fail with PeerGone."""
        if self._discovery is not None:
            await self._discovery.close()
        if self.mesh is not None:
            await self.mesh.close()
        self._closing.close()

    def _follow_itself(
        self, context: zmq.Context[zmq.Socket[bytes]], limits: Limits, opened: ExitStack
    ) -> FactReader:
        own = new_identity()
        self.serve(own, "own reader")

        def mend(body: Body) -> None:
            if isinstance(body, Updates | Snapshot):
                reader.mend(body)

        few = replace(limits, commands=QUESTIONS_AT_MOST)
        desk = Dealer(context, self.commands_endpoint, own, mend, self.counts, few)
        opened.callback(desk.close, linger_s=0)
        reader = FactReader(
            context,
            self.facts_endpoint,
            desk.notify,
            lambda changes: self.view.apply(self.node, changes),
            self.counts,
            limits,
        )
        opened.callback(reader.close)
        return reader
