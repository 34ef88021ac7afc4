"""An address at which a node is, or may be: called again and again, with one session at a time."""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Final, Protocol

from bus.cluster import Address, parse, same_id
from bus.errors import BusError
from bus.messages.peers import Greeting
from bus.session import Home, Session

logger = logging.getLogger(__name__)

TURN_S: Final = 2.0
"""Who is not a member after so long holds up the others that are to be dialled no longer."""


class Registry(Protocol):
    """Knows which session is which node's."""

    def claim(self, session: Session, greeting: Greeting) -> Session | None: ...

    def enter(self, session: Session) -> None: ...

    def leave(self, session: Session, reason: str) -> None: ...

    def give_up(self, link: "Link") -> None: ...


class Link:
    """Begins to call on creation. To be used on the loop's thread only."""

    def __init__(self, home: Home, registry: Registry, address: str, *, named: bool) -> None:
        """One that a person `named` is called for ever, others for a while. Raises ValueError."""
        parse(address)
        self.address = address
        self.named = named
        self.session: Session | None = None
        """The one that the node here is reached by: another link's, where that was faster."""
        self.is_ourselves = False
        self._home = home
        self._registry = registry
        self._loop = asyncio.get_running_loop()
        self._hurry = asyncio.Event()
        self._sign_of_life = self._loop.time()
        self._logged = ""
        self._own: Session | None = None
        self._in_turn = not named
        """Nobody waits for it, and it was not dialled yet."""
        self.task = asyncio.create_task(self._run(), name=f"link to {address}")

    def hasten(self) -> None:
        """There is a sign of life: call now."""
        self._sign_of_life = self._loop.time()
        self._hurry.set()

    def close(self) -> None:
        """Its task ends soon after."""
        if self._own is not None:
            self._own.close()
        self.task.cancel()

    async def _run(self) -> None:
        failures = 0
        while not self.is_ourselves and self._worth_a_call():
            try:
                await self._call()
                failures = 0
            except (OSError, BusError, TimeoutError) as error:
                self._explain(str(error))
            failures += 1
            await self._pause(self._home.limits.dial.wait_s(failures))
        self._registry.give_up(self)

    def _worth_a_call(self) -> bool:
        return self.named or self._loop.time() < self._sign_of_life + self._home.limits.found_s

    async def _pause(self, wait_s: float) -> None:
        if self.is_ourselves:
            return
        try:
            async with asyncio.timeout(wait_s):
                await self._hurry.wait()
        except TimeoutError:
            pass
        self._hurry.clear()

    async def _call(self) -> None:
        """One session, from dialling to its end. Raises OSError, BusError or TimeoutError."""
        address = await self._resolve()
        end_turn = await self._take_turn()
        session = self._own = Session(self._home, self.address, address)
        reason = "this node stops"
        try:
            greeting = await session.greet()
            self._sign_of_life = self._loop.time()
            if greeting.node == self._home.greeting.node:
                self._meet_ourselves(greeting)
                return
            other = self._registry.claim(session, greeting)
            if other is not None:
                end_turn()
                await self._wait_for_end(session, other)
                return
            self.session = session
            await session.follow(greeting)
            end_turn()
            self._registry.enter(session)
            self._logged = ""
            reason = await session.stay()
        except (BusError, TimeoutError) as error:
            reason = str(error)
            raise
        finally:
            end_turn()
            self._own = self.session = None
            session.close()
            self._registry.leave(session, reason)
            self._sign_of_life = self._loop.time()

    async def _take_turn(self) -> Callable[[], None]:
        """Wait while many are being dialled; the turn ends with a call of the result, or by itself soon.

        Only who was heard of waits, and once: who is not there must not hold up who comes back.
        """
        if not self._in_turn:
            return lambda: None
        turns, ended, self._in_turn = self._home.turns, False, False
        await turns.acquire()

        def end() -> None:
            nonlocal ended
            lapse.cancel()
            if not ended:
                ended = True
                turns.release()

        lapse = self._loop.call_later(TURN_S, end)
        return end

    async def _wait_for_end(self, session: Session, other: Session) -> None:
        """The node here is reached by another address already: be ready for when it no longer is."""
        session.close()
        self.session = other
        logger.debug("%s is another address of a node that is known", self.address)
        await asyncio.wait((other.ended,))

    def _meet_ourselves(self, greeting: Greeting) -> None:
        if greeting.started_at == self._home.greeting.started_at:
            self.is_ourselves = True
        else:
            self._explain(same_id(greeting))

    async def _resolve(self) -> Address:
        """The address with its name looked up, on this machine's own thread for that. Raises OSError."""
        host, port = parse(self.address)
        family, kind = socket.AF_INET, socket.SOCK_STREAM
        try:
            found = await self._loop.getaddrinfo(host, port, family=family, type=kind)
        except OSError as error:
            raise OSError(error.errno, f"the name {host} is not known here: {error.strerror}") from error
        return Address(str(found[0][4][0]), port)

    def _explain(self, problem: str) -> None:
        """Say why there is no such node, once as long as the reason is the same."""
        if problem != self._logged:
            level = logging.WARNING if self.named else logging.INFO
            logger.log(level, "The node at %s is not reached: %s. It is called again.", self.address, problem)
        self._logged = problem
