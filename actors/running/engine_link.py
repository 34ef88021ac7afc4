"""A Runner's hold on one engine process: the process itself and its place on the bus, together."""

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine

from actors.running.engine_process import EngineProcess
from bus.bus import Bus, new_identity
from bus.commands import Peer
from bus.errors import BusError
from bus.messages.base import SequenceId
from bus.messages.engine import (
    Accepted,
    Beat,
    Bound,
    Cancel,
    FromEngine,
    Hello,
    PhaseChange,
    Refused,
    Shutdown,
    Step,
    Submit,
    ToEngine,
)
from bus.messages.envelope import Body

logger = logging.getLogger(__name__)

COMMAND_TIMEOUT_S = 10.0
"""An engine's link answers a command as soon as it has read it, also while the engine computes."""

EXIT_S = 0.2
"""A process that ended leaves the bus before its exit code is here, which says more."""

Said = Callable[[FromEngine], object]
Lost = Callable[[int | None], object]
"""Told once, with the process's exit code."""
Untaken = Callable[[SequenceId, BusError], object]


class EngineLink:
    """Started for one launch of an engine, and never used again after its end. It may be started before there
    is anybody to use it: what it says until it is attached is kept."""

    def __init__(self, bus: Bus) -> None:
        """Use `start`."""
        self._kept: list[FromEngine] = []
        self._said: Said = self._kept.append
        self._lost: Lost = _nobody_cares
        self._untaken: Untaken = _nobody_sent
        # Only who knows this name is heard as this engine; it is told to the process and nobody else.
        self._identity = new_identity()
        self._peer: Peer = bus.expect(self._identity, receive=self._receive, gone=self._gone, name="engine")
        self._process: EngineProcess | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._given_up = ""
        self._retired = False
        self._over = False
        self._ended: int | None = None
        """Its exit code, where it ended before somebody was attached."""

    @classmethod
    async def start(cls, bus: Bus) -> "EngineLink":
        """Start an engine process and expect it on the bus."""
        link = cls(bus)
        try:
            link._process = await EngineProcess.start(
                bus.commands_endpoint, link._identity, bus.keys, link._exited
            )
        except BaseException:
            link.kill()
            raise
        return link

    def attach(self, said: Said, lost: Lost, untaken: Untaken) -> None:
        """From now on these are told, of what it has said so far first."""
        kept, self._kept = self._kept, []
        self._said, self._lost, self._untaken = said, lost, untaken
        for body in kept:
            said(body)
        if self._ended is not None:
            lost(self._ended)

    @property
    def lives(self) -> bool:
        """Its process runs."""
        return not self._over and self._process is not None and self._process.runs

    def command(self, body: ToEngine) -> None:
        """Send a command; of a sequence that is not taken, `untaken` says so."""
        self._begin(self._command(body))

    def retire(self, patience_s: float) -> None:
        """The engine is about to end by itself: kill it if it does not."""
        self._retired = True
        if self._process is not None:
            self._begin(self._process.end(patience_s))

    def cancel(self, sequences: tuple[SequenceId, ...]) -> None:
        """Have the engine drop these before its next step."""
        self.command(Cancel(sequences=sequences))

    def give_up(self, why: str) -> None:
        """The engine is stuck: end it, and let that be the reason."""
        if not self._given_up and self._process is not None:
            logger.error("engine %d is killed: %s", self._process.pid, why)
            self._given_up = why
            self._process.kill()

    def describe_end(self, code: int | None) -> str:
        """Why the engine is gone, for a person to read."""
        if self._given_up:
            return self._given_up
        if code is None or self._process is None:
            return "the engine process left the bus"
        if code == -signal.SIGKILL:
            return "the engine process was killed (the system may be out of memory)"
        if code < 0:
            return f"the engine process ended by {signal.Signals(-code).name}"
        return f"the engine process ended with exit code {code}"

    async def stop(self, patience_s: float) -> None:
        """End the engine in an orderly way, or else by force."""
        self._over = True
        if self._process is not None:
            if not self._peer.notify(Shutdown()):  # it is still starting, and holds nothing
                self._process.kill()
            await self._process.end(patience_s)

    async def kill_and_wait(self) -> None:
        """End the engine at once, and wait until nothing of it is left."""
        self.kill()
        if self._process is not None:
            await self._process.ended()

    def kill(self) -> None:
        """End the engine at once, and forget it."""
        self._over = True
        for task in self._tasks:
            task.cancel()
        if self._process is not None:
            self._process.kill()
        self._peer.forget()

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _command(self, body: ToEngine) -> None:
        try:
            await self._peer.command(body, COMMAND_TIMEOUT_S)
        except BusError as error:
            logger.warning("%s was not taken by the engine: %s", type(body).__name__, error)
            if isinstance(body, Submit):
                self._untaken(body.sequence, error)

    def _receive(self, body: Body) -> None:
        match body:
            case Hello() | Bound() | PhaseChange() | Accepted() | Refused() | Step() | Beat():
                self._said(body)
            case _:
                logger.warning("an engine may not say %s: dropped", type(body).__name__)

    def _gone(self) -> None:
        """The process left the bus: if it does not end by itself now, it is of no use any more."""
        asyncio.get_running_loop().call_later(EXIT_S, self._gone_for_good)

    def _gone_for_good(self) -> None:
        if self._over or self._retired:  # it was to leave
            return
        if self._process is not None and self._process.runs:
            self.give_up("the engine process gave no sign of life and left the bus")

    def _exited(self, code: int) -> None:
        if not self._over:
            self._ended = code
            self._lost(code)


def _nobody_cares(_code: int | None) -> None:
    """An engine that nobody uses has ended."""


def _nobody_sent(_sequence: SequenceId, _error: BusError) -> None:
    """An engine that nobody uses was sent nothing."""
