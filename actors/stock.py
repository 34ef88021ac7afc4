"""The Stock actor: keeps an engine process started ahead: who needs one need not wait for Python and MLX."""

import asyncio
import logging
import time
from typing import Final

import pykka

from actors import names
from actors.kernel.actor import LoopActor
from actors.kernel.directory import Directory
from actors.kernel.mailbox import MailboxFull
from actors.messages import StockMessage, TakeEngine, Tick
from actors.running.engine_link import EngineLink
from bus.bus import Bus

logger = logging.getLogger(__name__)

TAKE_S: Final = 10.0
"""Starting a process takes milliseconds."""

LOOK_S: Final = 0.5

REST_S: Final = 2.0
"""An engine that was just taken loads now: the next one is not started in its way."""


class Stock(LoopActor[StockMessage]):
    """A spare engine holds no model; it costs the memory of an interpreter with MLX in it. One is kept while
    there are other nodes, whose loss would have this one start an engine while somebody waits for tokens."""

    def __init__(self, bus: Bus, *, keeps_spare: bool) -> None:
        super().__init__()
        self._bus, self._keeps_spare = bus, keeps_spare
        self._spare: EngineLink | None = None
        self._taken_at = time.monotonic()

    def on_start(self) -> None:
        """Begin with none: the first engines of a node have somebody waiting for them."""
        self.tell_later(LOOK_S, Tick())

    async def on_receive(self, message: StockMessage) -> EngineLink | None:
        """Hand an engine out, or see to the spare one."""
        match message:
            case TakeEngine():
                self._taken_at = time.monotonic()
                spare, self._spare = self._spare, None
                if spare is not None and spare.lives:
                    logger.debug("an engine that was started ahead is taken")
                    return spare
                return await EngineLink.start(self._bus)
            case Tick():
                self.tell_later(LOOK_S, Tick())
                await self._refill()
                return None

    async def on_end(self, cause: BaseException | None) -> None:
        """Nobody will use the spare one."""
        spare, self._spare = self._spare, None
        if spare is not None:
            await spare.kill_and_wait()

    async def _refill(self) -> None:
        mesh = self._bus.mesh
        wanted = self._keeps_spare and mesh is not None and bool(mesh.members)
        spare = self._spare
        if spare is not None and not (wanted and spare.lives):
            self._spare = None
            await spare.kill_and_wait()
        if wanted and self._spare is None and time.monotonic() - self._taken_at > REST_S:
            try:
                self._spare = await EngineLink.start(self._bus)
            except OSError as error:  # who needs one will say so
                logger.warning("no engine process can be started ahead: %s", error)


async def take_engine(directory: Directory, bus: Bus) -> EngineLink:
    """An engine that nobody uses, started ahead if there is one; raises OSError if none can be started.

    Who is interrupted leaves none behind.
    """
    stock = directory.find(names.STOCK)
    if stock is None:
        return await EngineLink.start(bus)
    taking = asyncio.ensure_future(stock.request(TakeEngine(), EngineLink, timeout=TAKE_S))
    try:
        return await asyncio.shield(taking)
    except (TimeoutError, pykka.ActorDeadError, MailboxFull):
        taking.add_done_callback(_kill)
        return await EngineLink.start(bus)
    except asyncio.CancelledError:
        taking.add_done_callback(_kill)
        raise


def _kill(taken: asyncio.Future[EngineLink]) -> None:
    if not taken.cancelled() and taken.exception() is None:
        taken.result().kill()
