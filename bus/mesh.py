"""The cluster as one node sees it: every node calls every other one, and knows when one is lost.

After Harmony of the ZeroMQ guide (chapter 8): each node has one ROUTER that others call, and calls each other
one from a DEALER of its own. Commands and notices go out over the DEALER; their answers come back there.
"""

import asyncio
import dataclasses
import logging
import random
import time
from collections.abc import Callable
from typing import Final

import zmq
from msgspec.structs import replace

from bus.callers import Callers
from bus.cluster import Cluster, Member, objection, parse, same_id
from bus.conversation import Answer
from bus.counts import Count, Counts
from bus.errors import PeerGone, Refused
from bus.keys import Keys
from bus.link import Link
from bus.messages.base import NodeId
from bus.messages.envelope import Body
from bus.messages.generation import Refusal, RefusalCode
from bus.messages.peers import Greeting
from bus.publisher import FactPublisher
from bus.reach import is_local, own_address
from bus.session import Home, Session
from bus.sockets import Limits
from bus.traffic import Traffic
from bus.view import ClusterView

logger = logging.getLogger(__name__)

Joined = Callable[[Member], None]
Left = Callable[[Member, str], None]

CHECKS: Final = 12
"""How often in the time of a silence it is looked for."""

AT_ONCE: Final = 8
"""How many nodes are dialled at once: if many start together, and all dialled all, most would be too late."""

RARELY: Final = 20
"""Times as long between two heartbeats, where they only end connections of which the other end is gone."""

_STARTING: Final = Refusal(RefusalCode.OVERLOADED, "This node is still starting: try again.", None, 1.0)
_ANEW: Final = "it was started anew"


class Mesh:
    """Made by `Bus.open`. To be used on the loop's thread only."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        node: NodeId,
        cluster: Cluster,
        keys: Keys,
        publisher: FactPublisher,
        view: ClusterView,
        counts: Counts,
        limits: Limits,
    ) -> None:
        """Bind, but call nobody yet. Raises OSError."""
        self.host = own_address(cluster.listen, cluster.peers)
        """The address of this machine at which others reach it."""
        self.members: dict[NodeId, Member] = {}
        """All others, as they are now."""
        self._cluster = cluster
        self._counts = counts
        self._limits = limits
        # Who lives is asked on one connection of four between two nodes: even that is much of the traffic.
        quiet = dataclasses.replace(limits, heartbeat_ms=RARELY * limits.heartbeat_ms)
        self._loop = asyncio.get_running_loop()
        self._outlet = publisher.open(cluster.listen, keys, quiet)
        self._callers = Callers(
            context,
            cluster,
            keys,
            publisher,
            counts,
            quiet,
            greeted=self._greeted,
            answer=self._decide,
            receive=self._hear,
        )
        bus, facts = (
            parse(end.endpoint.removeprefix("tcp://")).port for end in (self._callers, self._outlet)
        )
        self.address = f"{self.host}:{bus}"
        """HOST:PORT at which others reach this node."""
        greeting = Greeting(node, cluster.name, cluster.version, cluster.started_at, facts, bus)
        self._home = Home(
            context,
            keys,
            greeting,
            hello=self._hello,
            hear_of=self._hear_of,
            turns=asyncio.Semaphore(AT_ONCE),
            view=view,
            counts=counts,
            limits=limits,
            quiet=quiet,
        )
        self._links: dict[str, Link] = {}
        self._sessions: dict[NodeId, Session] = {}
        """Who was greeted; members too."""
        self._callers_back: dict[NodeId, str] = {}
        """Who greeted this node and is not greeted yet: HOST:PORT at which that is being tried."""
        self._published: dict[NodeId, Traffic] = {}
        """What the outlet had said when a member joined."""
        self._listeners: list[tuple[Joined, Left]] = []
        self._answer: Callable[[NodeId, Body], Answer] | None = None
        self._receive: Callable[[NodeId, Body], None] | None = None
        self._gossip_wait_s = limits.gossip_s
        self._news = asyncio.Event()
        self._fresh_at = self._checked_at = self._gossiped_at = time.monotonic()
        self._checking: asyncio.TimerHandle | None = None
        self._closed = False

    # -- what it is for --------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to call the nodes that were named."""
        for address in dict.fromkeys(self._cluster.peers):
            self._links[address] = Link(self._home, self, address, named=True)
        self._check()

    def serve(
        self, answer: Callable[[NodeId, Body], Answer], receive: Callable[[NodeId, Body], None]
    ) -> None:
        """Who answers the commands of other nodes, and who takes their notices: on the loop, in order."""
        self._answer, self._receive = answer, receive

    async def command(self, node: NodeId, body: Body, timeout_s: float) -> Body | None:
        """Have another node do something; returns what it says to it.

        Raises Refused, PeerGone, QueueFull, CommandTimeout or TooLarge.
        """
        if node not in self.members:
            raise PeerGone(f"node {node} is not in the cluster (any more): {type(body).__name__} not sent")
        return await self._sessions[node].dealer.command(body, timeout_s)

    def notify(self, node: NodeId, body: Body) -> bool:
        """Tell another node; False: not sent, it is gone or does not keep up. Raises TooLarge."""
        return node in self.members and self._sessions[node].dealer.notify(body)

    def on_change(self, joined: Joined, left: Left) -> Callable[[], None]:
        """Call these for each member that comes or goes, with the reason, until the result is called."""
        listener = (joined, left)
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def add(self, address: str) -> None:
        """A node may be at HOST:PORT: call it now, and for a while. Raises ValueError."""
        link = self._links.get(address)
        if link is not None:
            link.hasten()
        elif not self._closed:
            self._links[address] = Link(self._home, self, address, named=False)

    async def settled(self, timeout_s: float) -> None:
        """Wait until each node that was named is a member, or the time is over."""
        try:
            async with asyncio.timeout(timeout_s):
                while not all(self._reached(link) for link in self._links.values() if link.named):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return

    def traffic(self) -> dict[NodeId, Traffic]:
        """What passed with each member: commands, notices, and facts both ways."""
        return {node: self._traffic(node) for node in self.members}

    async def close(self) -> None:
        """Leave: every command that waits fails with PeerGone, and nobody is told that members left."""
        self._closed = True
        if self._checking is not None:
            self._checking.cancel()
        links = tuple(self._links.values())
        for link in links:
            link.close()
        self._callers.close()
        await asyncio.gather(*(link.task for link in links), return_exceptions=True)

    # -- for links -------------------------------------------------------------------------------

    def claim(self, session: Session, greeting: Greeting) -> Session | None:
        """The session that this node has already; None: from now on it is this one. Raises Refused."""
        problem = self._objection(greeting)
        if problem:
            raise Refused(Refusal(RefusalCode.INVALID, problem))
        node = greeting.node
        current = self._sessions.get(node)
        if current is not None and not current.ended.done():
            if self._started_at(node) == greeting.started_at:
                self._news.set()
                return current
            self.leave(current, _ANEW)
        session.greeted(greeting)
        self._sessions[node] = session
        self._callers_back.pop(node, None)
        return None

    def enter(self, session: Session) -> None:
        """All facts of the node are here: it is a member."""
        member = session.member
        if member is None or self._sessions.get(member.id) is not session or session.ended.done():
            return
        self.members[member.id] = member
        # Others may be joining too: ask soon, and then less and less often.
        self._gossip_wait_s = self._limits.silence_s / CHECKS
        self._published[member.id] = self._outlet.meter.read()
        logger.info("Node %s (%s) joined, at %s", member.name, member.id, member.address)
        self._news.set()
        self._tell(lambda joined, left: joined(member))

    def leave(self, session: Session, reason: str) -> None:
        """The session is over, and with it the membership; no harm if that is known."""
        session.end(reason)
        member = session.member
        if member is None or self._sessions.get(member.id) is not session:
            return
        del self._sessions[member.id]
        if self._closed:
            return
        self._home.view.forget(member.id)
        if self.members.pop(member.id, None) is None:
            return
        self._counts.add(Count.LOST_MEMBERS)
        logger.warning("Node %s (%s) at %s left: %s", member.name, member.id, member.address, reason)
        self._tell(lambda joined, left: left(member, reason))

    def give_up(self, link: Link) -> None:
        """A link calls no more."""
        self._news.set()
        if not link.named and self._links.get(link.address) is link:
            del self._links[link.address]

    # -- who knows whom --------------------------------------------------------------------------

    def _hello(self) -> Greeting:
        """What this node is, and whom it knows: so that who knows one member at once knows them all.

        Of many that come together, each hears of those that came a moment before it, members or not yet.
        """
        known = {node: address for node, address in self._callers_back.items() if address in self._links}
        known |= {node: str(each.address) for node, each in self._sessions.items() if not each.ended.done()}
        return replace(self._home.greeting, others=known)

    def _hear_of(self, greeting: Greeting, host: str) -> None:
        """Call those whom another node, at that host, knows and this one does not."""
        for node, address in greeting.others.items():
            known = node == self._home.greeting.node or node in self._sessions or address in self._links
            # What is reached on its own machine by the other node is not to be found on this one.
            if not known and (is_local(host) or not is_local(parse(address).host)):
                self.add(address)

    def _gossip(self, now: float) -> None:
        """Ask one member whom it knows: what went unsaid while nodes joined is so made good."""
        if self.members and now - self._gossiped_at > self._gossip_wait_s:
            self._gossiped_at = now
            self._gossip_wait_s = min(2 * self._gossip_wait_s, self._limits.gossip_s)
            self._sessions[random.choice(tuple(self.members))].greet_again()

    # -- who calls this node ---------------------------------------------------------------------

    def _greeted(self, greeting: Greeting, host: str) -> Greeting | Refusal:
        problem = self._objection(greeting)
        if problem:
            self._counts.once(Count.REFUSED_GREETINGS, f"A node at {host} was refused", problem)
            return Refusal(RefusalCode.INVALID, problem)
        node = greeting.node
        if node != self._home.greeting.node and self._started_at(node) != greeting.started_at:
            # The new life of a node is known before its old connection is known to be dead.
            if node in self._sessions:
                self.leave(self._sessions[node], _ANEW)
            self._callers_back[node] = address = f"{host}:{greeting.bus_port}"
            self.add(address)
        self._hear_of(greeting, host)
        return self._hello()

    def _objection(self, theirs: Greeting) -> str:
        """Why that node can't be one of this cluster; empty: it can."""
        ours = self._home.greeting
        if theirs.node == ours.node and theirs.started_at != ours.started_at:
            return same_id(theirs)
        if self._started_at(theirs.node) > theirs.started_at:
            return same_id(theirs)
        return objection(ours, theirs)

    def _started_at(self, node: NodeId) -> float:
        """When the life of a node began that is known; minus infinity: it is not known."""
        session = self._sessions.get(node)
        return session.member.started_at if session is not None and session.member else float("-inf")

    def _decide(self, node: NodeId, body: Body) -> Answer:
        if self._answer is None:
            self._counts.add(Count.EARLY)
            return _STARTING
        return self._answer(node, body)

    def _hear(self, node: NodeId, body: Body) -> None:
        if self._receive is None:
            self._counts.drop(Count.EARLY, f"node {node}", f"{type(body).__name__} while this node starts")
        else:
            self._receive(node, body)

    # -- who is silent ---------------------------------------------------------------------------

    def _check(self) -> None:
        """Look for members that are silent, and start their time again if this node itself stood still."""
        now = time.monotonic()
        silence_s = self._limits.silence_s
        if now - self._checked_at > silence_s / 2:
            self._fresh_at = now
        self._checked_at = now
        for node, session in tuple(self._sessions.items()):
            if now - self._heard_at(node, session) > silence_s:
                session.end(f"nothing was heard of it for {silence_s:g} s")
        self._gossip(now)
        self._checking = self._loop.call_later(silence_s / CHECKS, self._check)

    def _heard_at(self, node: NodeId, session: Session) -> float:
        calls = (meter.heard_at for meter in self._callers.meters(node))
        return max(self._fresh_at, session.heard_at, *calls)

    # -- small things ----------------------------------------------------------------------------

    def _reached(self, link: Link) -> bool:
        known = link.session.member if link.session is not None else None
        return link.is_ourselves or (known is not None and self.members.get(known.id) == known)

    def _traffic(self, node: NodeId) -> Traffic:
        facts = self._outlet.meter.read() - self._published[node]
        calls = (meter.read() for meter in self._callers.meters(node))
        return sum(calls, self._sessions[node].traffic + facts)

    def _tell(self, tell: Callable[[Joined, Left], None]) -> None:
        for joined, left in tuple(self._listeners):
            try:
                tell(joined, left)
            except Exception:
                self._counts.add(Count.HANDLER_ERRORS)
                logger.exception("A listener failed on a change of members")
