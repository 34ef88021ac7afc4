"""One connection to another node, from its greeting to its loss."""

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TypeVar

import zmq

from bus.cluster import Address, Member
from bus.counts import Count, Counts
from bus.dealer import Dealer, Line
from bus.errors import BusError, PeerGone, Refused
from bus.keys import Keys
from bus.messages.envelope import Body
from bus.messages.facts import Snapshot, Updates
from bus.messages.generation import Refusal, RefusalCode
from bus.messages.peers import Greeting
from bus.reader import FactReader
from bus.sockets import Limits
from bus.traffic import Traffic
from bus.view import ClusterView

logger = logging.getLogger(__name__)

T = TypeVar("T")

_OTHER_KEY = "it has another cluster key, or is no node of exo_actors: give both nodes the same --cluster-key"
_CUT = "it hangs up at once: give both nodes the same --cluster-key"
_SILENT = "no node answers there yet"


@dataclass(frozen=True)
class Home:
    """What all sessions of a node share."""

    context: zmq.Context[zmq.Socket[bytes]]
    keys: Keys
    greeting: Greeting
    """What this node is."""
    hello: Callable[[], Greeting]
    """The same, with what it knows of others now."""
    hear_of: Callable[[Greeting, str], None]
    """Told each greeting of another node, and the host that it is at."""
    turns: asyncio.Semaphore
    """To be taken before somebody new is dialled: so few are at once."""
    view: ClusterView
    counts: Counts
    limits: Limits
    quiet: Limits
    """With rare heartbeats."""


class Session:
    """Dials on creation. To be used on the loop's thread only, and closed."""

    def __init__(self, home: Home, shown: str, address: Address) -> None:
        """`shown` is the address as people know it."""
        self._home = home
        self._shown = shown
        self.address = address
        """Where the node is reached, as an IP address and a port."""
        self._loop = asyncio.get_running_loop()
        self._up = asyncio.Event()
        self._anew = asyncio.Event()
        self._grace: asyncio.TimerHandle | None = None
        self._cut = False
        self._reader: FactReader | None = None
        self.member: Member | None = None
        """Who it is, once it was greeted."""
        self.ended: asyncio.Future[str] = self._loop.create_future()
        """Why it is over, once it is."""
        # Nobody else must have this routing id: of two, a ROUTER hears only the later one.
        identity = f"{home.greeting.node}/{secrets.token_hex(8)}".encode()
        self.dealer = Dealer(
            home.context,
            address.endpoint,
            identity,
            self._receive,
            home.counts,
            home.limits,
            keys=home.keys,
            watch=self._on_line,
            name=f"the node at {shown}",
        )

    async def greet(self) -> Greeting:
        """Greet the node, and return its own greeting. Raises BusError, or TimeoutError with its cause."""
        limit_s = self._home.limits.dial_s
        try:
            async with asyncio.timeout(limit_s):
                await self._unless_ended(self._up.wait())
                reply = await self._unless_ended(self.dealer.command(self._home.hello(), limit_s))
        except TimeoutError:
            raise TimeoutError(_CUT if self._cut else _SILENT) from None
        if not isinstance(reply, Greeting):
            raise Refused(Refusal(RefusalCode.INVALID, "it answers greetings with something else"))
        self._home.hear_of(reply, self.address.host)
        return reply

    def greet_again(self) -> None:
        """Exchange what is known of others."""
        self._anew.set()

    def greeted(self, greeting: Greeting) -> None:
        """It is known who is there."""
        self.member = Member(greeting.node, greeting.name, greeting.version, greeting.started_at, self._shown)

    async def follow(self, greeting: Greeting) -> None:
        """Take in all facts of the node that was greeted. Raises PeerGone or TimeoutError."""
        home = self._home
        node = greeting.node
        self._reader = FactReader(
            home.context,
            self.address._replace(port=greeting.facts_port).endpoint,
            self.dealer.notify,
            lambda changes: home.view.apply(node, changes),
            home.counts,
            home.quiet,
            home.keys,
        )
        await self._unless_ended(self._reader.caught_up(home.limits.dial_s))

    async def stay(self) -> str:
        """Wait until it is over, and return why. A connection that is made anew begins with a greeting.

        One that goes unanswered is tried again: it may have been this node that stood still.
        """
        try:
            while True:
                await self._unless_ended(self._anew.wait())
                self._anew.clear()
                try:
                    greeting = await self.greet()
                except TimeoutError:
                    greeting = await self.greet()
                known = self.member
                if known is None or (greeting.node, greeting.started_at) != (known.id, known.started_at):
                    return "another process answers there"
        except PeerGone as error:
            return self.ended.result() if self.ended.done() else str(error)
        except TimeoutError:
            return "it does not answer"
        except BusError as error:
            return str(error)

    def end(self, reason: str) -> None:
        """It is over; whoever waits for that closes it."""
        if not self.ended.done():
            self.ended.set_result(reason)

    def close(self) -> None:
        reason = "the connection is closed"
        self.end(reason)
        self._rest()
        if self._reader is not None:
            self._reader.close()
        self.dealer.close(linger_s=0, reason=self.ended.result())

    @property
    def heard_at(self) -> float:
        """When something came from the node last, in seconds of the monotonic clock."""
        heard_at = self.dealer.meter.heard_at
        return heard_at if self._reader is None else max(heard_at, self._reader.meter.heard_at)

    @property
    def traffic(self) -> Traffic:
        """What passed on this connection so far."""
        traffic = self.dealer.meter.read()
        return traffic if self._reader is None else traffic + self._reader.meter.read()

    async def _unless_ended(self, work: Coroutine[None, None, T]) -> T:
        """Do the work unless the session ends first; then raise PeerGone with the reason."""
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait((task, self.ended), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise PeerGone(self.ended.result())
            return task.result()
        finally:
            task.cancel()

    def _on_line(self, line: Line) -> None:
        match line:
            case Line.UP:
                self._rest()
                if self.member is not None:
                    self._anew.set()
                self._up.set()
            case Line.DOWN if self._up.is_set():
                self._up.clear()
                self._grace = self._loop.call_later(self._home.limits.gone_s, self.end, "its process ended")
            case Line.DOWN:
                pass
            case Line.CUT:
                self._cut = True
            case Line.REFUSED:
                self.end(_OTHER_KEY)

    def _receive(self, body: Body) -> Refusal | None:
        if isinstance(body, Updates | Snapshot):
            if self._reader is not None:
                self._reader.mend(body)
            return None
        name = type(body).__name__
        self._home.counts.drop(Count.UNKNOWN_TYPE, f"the node at {self._shown}", f"{name} is not said here")
        return Refusal(RefusalCode.INVALID, f"{name} is to be sent over a connection of its sender's.")

    def _rest(self) -> None:
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
