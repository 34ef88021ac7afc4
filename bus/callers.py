"""Who has called this node: each must greet first, and is heard from then on."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import zmq

from bus.cluster import Cluster
from bus.codec import Undecodable, decode_envelope
from bus.commands import CommandRouter, Peer
from bus.conversation import Answer
from bus.counts import Count, Counts
from bus.keys import Keys
from bus.messages.base import NodeId
from bus.messages.envelope import Body, Command
from bus.messages.facts import Since
from bus.messages.generation import Refusal, RefusalCode
from bus.messages.peers import Greeting
from bus.port import Frames
from bus.publisher import FactPublisher
from bus.sockets import Limits
from bus.traffic import Meter


@dataclass(eq=False)
class Caller:
    """One connection of another node to this one's ROUTER."""

    host: str
    """Where it calls from."""
    peer: Peer
    node: NodeId | None = None
    """Who it is, once its greeting was accepted."""


class Callers:
    """All of them, and the ROUTER that they call. To be used on the loop's thread only."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        cluster: Cluster,
        keys: Keys,
        publisher: FactPublisher,
        counts: Counts,
        limits: Limits,
        *,
        greeted: Callable[[Greeting, str], Greeting | Refusal],
        answer: Callable[[NodeId, Body], Answer],
        receive: Callable[[NodeId, Body], None],
    ) -> None:
        """`greeted` is told the greeting and the host that it came from. Raises OSError."""
        self._publisher = publisher
        self._counts = counts
        self._greeted = greeted
        self._answer = answer
        self._receive = receive
        self._callers: list[Caller] = []
        self._router = CommandRouter(
            context,
            cluster.listen,
            counts,
            limits,
            publisher,
            port=cluster.port,
            keys=keys,
            admit=self._admit,
        )
        self.endpoint = self._router.endpoint

    def meters(self, node: NodeId) -> Iterator[Meter]:
        """What passed with this node over connections that it made."""
        return (caller.peer.conversation.meter for caller in self._callers if caller.node == node)

    def close(self) -> None:
        self._router.close()

    def _admit(self, identity: bytes, frames: Frames) -> bool:
        """Take in a routing id that greets; all else that it may say first is dropped."""
        host = str(frames[-1].get("Peer-Address"))
        if not _greets(frames):
            self._drop(host, "something else before its greeting")
            return False
        peer = self._router.expect(
            identity,
            receive=lambda body: self._hear(caller, body),
            answer=lambda body: self._decide(caller, body),
            gone=lambda: self._gone(caller),
            name=f"the node that calls from {host}",
        )
        caller = Caller(host, peer)
        self._callers.append(caller)
        return True

    def _decide(self, caller: Caller, body: Body) -> Answer:
        if isinstance(body, Greeting):
            return self._greet(caller, body)
        if caller.node is None:
            self._drop(caller.host, f"{type(body).__name__}, but was refused")
            return Refusal(RefusalCode.INVALID, "Your greeting was refused.")
        return self._answer(caller.node, body)

    def _greet(self, caller: Caller, greeting: Greeting) -> Greeting | Refusal:
        answer = self._greeted(greeting, caller.host)
        caller.node = greeting.node if isinstance(answer, Greeting) else None
        for other in tuple(self._callers):
            # While an older connection of the node was its last, it might have come back.
            if other is not caller and other.node == greeting.node and not other.peer.present:
                self._forget(other)
        return answer

    def _hear(self, caller: Caller, body: Body) -> None:
        if caller.node is None:
            self._drop(caller.host, f"{type(body).__name__}, but was refused")
        elif isinstance(body, Since):
            caller.peer.notify(self._publisher.answer(body))
        else:
            self._receive(caller.node, body)

    def _gone(self, caller: Caller) -> None:
        if caller.node is None:
            self._forget(caller)

    def _forget(self, caller: Caller) -> None:
        self._callers.remove(caller)
        caller.peer.forget()

    def _drop(self, host: str, what: str) -> None:
        self._counts.drop(Count.EARLY, f"a node at {host}", f"it said {what}")


def _greets(frames: Frames) -> bool:
    if len(frames) != 2:
        return False
    try:
        envelope = decode_envelope(frames[1].buffer)
    except Undecodable:
        return False
    return isinstance(envelope, Command) and isinstance(envelope.body, Greeting)
