"""The engine's end of the bus, on a thread of its own: takes orders, tokenises, sends what came of them."""

import asyncio
import logging
import os
import sys
import threading
import time
from collections import deque
from queue import SimpleQueue
from typing import Final

from bus.dealer import Dealer
from bus.errors import BusError, TooLarge
from bus.messages.base import SequenceId
from bus.messages.engine import (
    Accepted,
    Beat,
    Bound,
    Budget,
    Cancel,
    Connect,
    FromEngine,
    Hello,
    Load,
    Phase,
    PhaseChange,
    Refused,
    Shutdown,
    Step,
    Submit,
)
from bus.messages.envelope import Body
from bus.messages.generation import Refusal, RefusalCode
from engine.clerks import Clerks
from engine.gauges import Gauges, Pulse
from engine.intake import Intake, Rejected
from engine.work import Drop, End, Job, Work

logger = logging.getLogger(__name__)

BEAT_S: Final = 0.5
RETRY_S: Final = 0.005
"""How soon to try again when the node does not take more."""
MOST_UNDER_WAY: Final = 4096
"""Sequences, running and waiting; the node spreads and refuses long before."""
PATIENCE_S: Final = 1.0
"""How long the end of the process may take once it was asked for."""


class Link:
    """Speaks with the node. What is said in `post` arrives in order; nothing of it is dropped.

    When the node's end of standard input closes, the node is gone, and the process ends itself at once,
    whatever the step loop is computing.
    """

    def __init__(
        self,
        endpoint: str,
        identity: bytes,
        versions: dict[str, str],
        inbox: "SimpleQueue[Work]",
        gauges: Gauges,
    ) -> None:
        self._endpoint = endpoint
        self._identity = identity
        self._versions = versions
        self._inbox = inbox
        self._gauges = gauges
        self._pulse = Pulse()
        self._intake: Intake | None = None
        self._loaded = False
        self._live: set[SequenceId] = set()
        self._unsent: deque[FromEngine] = deque()
        self._retrying = False
        self._flowing = threading.Event()
        self._flowing.set()
        self._ready = threading.Event()
        # A long prompt takes a while to tokenise: the tokens of those that run must not wait for that.
        self._clerks = Clerks()
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)

    # -- for the step loop's thread --------------------------------------------------------------

    def start(self) -> None:
        """Connect and say hello; returns when that is done."""
        self._thread.start()
        self._ready.wait()

    def serve(self, intake: Intake) -> None:
        """From now on there is a model to submit to."""
        self._intake = intake

    def post(self, message: FromEngine) -> None:
        """Send a message; waits while the node does not take what was sent before."""
        self._flowing.wait()
        self._loop.call_soon_threadsafe(self._send, message)

    def close(self) -> None:
        """Wait, within limits, until all that was posted has arrived, and hang up."""
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(2 * PATIENCE_S)

    # -- on the link's own thread ----------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException:
            logger.exception("the link failed: the engine ends")
            os._exit(1)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        self._sent = asyncio.Event()
        self._watch_stdin()
        self._dealer = Dealer.connect(self._endpoint, self._identity, self._receive)
        self._send(Hello(os.getpid(), versions=self._versions))
        self._ready.set()
        beating = asyncio.create_task(self._beat())
        try:
            await self._closing.wait()
            await self._see_off()
        finally:
            beating.cancel()
            self._clerks.close()
            self._dealer.close()

    def _watch_stdin(self) -> None:
        try:
            self._loop.add_reader(sys.stdin.fileno(), _end_if_node_is_gone)
        except (OSError, ValueError):
            logger.warning("standard input is no pipe: a lost node will not be noticed")

    async def _beat(self) -> None:
        while True:
            self._send(self._beat_now())
            await asyncio.sleep(BEAT_S)

    def _beat_now(self) -> Beat:
        return self._pulse.beat(self._gauges.reading, time.monotonic(), self._gauges.waiting_for)

    async def _see_off(self) -> None:
        """Once a command is answered, in whatever way, all that was sent before it has arrived."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._sent.wait()
                last = self._beat_now()
                await self._dealer.command(last, PATIENCE_S)
        except (BusError, TimeoutError):
            return

    # -- what comes in ---------------------------------------------------------------------------

    def _receive(self, body: Body) -> Refusal | None:
        match body:
            case Submit():
                return self._submit(body)
            case Cancel(sequences=sequences):
                self._live.difference_update(sequences)
                self._inbox.put(Drop(frozenset(sequences)))
                return None
            case Load():
                return self._load(body)
            case Connect() | Budget():
                self._inbox.put(body)
                return None
            case Shutdown():
                self._inbox.put(End())
                # The step loop ends at its next step; should that take too long, this does.
                self._loop.call_later(PATIENCE_S, os._exit, 0)
                return None
            case _:
                return Refusal(RefusalCode.INVALID, f"An engine takes no {type(body).__name__}.")

    def _load(self, load: Load) -> Refusal | None:
        if self._loaded:
            return Refusal(RefusalCode.INVALID, "This engine has its model already: start another one.")
        self._loaded = True
        self._inbox.put(load)
        return None

    def _submit(self, submit: Submit) -> Refusal | None:
        if self._intake is None:
            return Refusal(RefusalCode.ENGINE_LOST, "The engine is not ready yet.", retry_after_s=1.0)
        if submit.sequence in self._live:
            return Refusal(RefusalCode.INVALID, f"There is a sequence {submit.sequence} already.")
        if len(self._live) >= MOST_UNDER_WAY:
            return Refusal(RefusalCode.OVERLOADED, "Too many sequences wait already.", retry_after_s=1.0)
        self._live.add(submit.sequence)
        clerk = self._clerks.clerk(submit.prompt)
        looking = self._loop.run_in_executor(clerk, self._look, self._intake, submit)
        looking.add_done_callback(lambda looked: self._looked_at(submit, looked))
        return None

    def _look(self, intake: Intake, submit: Submit) -> Job | None:
        """On a clerk's thread. None: it was cancelled before its turn came."""
        return intake.accept(submit) if submit.sequence in self._live else None

    def _looked_at(self, submit: Submit, looked: "asyncio.Future[Job | None]") -> None:
        if looked.cancelled():
            return
        error = looked.exception()  # asked for in any case: else asyncio calls it forgotten
        if submit.sequence not in self._live:
            return
        match error:
            case None:
                job = looked.result()
                if job is None:
                    return
                self._send(Accepted(submit.sequence, job.prompt_tokens))
                self._inbox.put(job)
            case Rejected() as rejected:
                self._send(Refused(submit.sequence, rejected.refusal))
            case _:
                logger.error("a submission could not be looked at", exc_info=error)
                failed = Refusal(RefusalCode.ENGINE_FAILED, "The engine failed on this prompt.")
                self._send(Refused(submit.sequence, failed))

    # -- what goes out ---------------------------------------------------------------------------

    def _send(self, message: FromEngine) -> None:
        self._note(message)
        self._unsent.append(message)
        if not self._retrying:
            self._drain()

    def _drain(self) -> None:
        self._retrying = False
        while self._unsent:
            message = self._unsent.popleft()
            try:
                taken = self._dealer.notify(message)
            except TooLarge as error:
                self._unsent.extendleft(reversed(self._smaller(message, error)))
                continue
            if not taken:
                self._unsent.appendleft(message)
                self._retrying = True
                self._flowing.clear()
                self._sent.clear()
                self._loop.call_later(RETRY_S, self._drain)
                return
        self._flowing.set()
        self._sent.set()

    def _smaller(self, message: FromEngine, error: TooLarge) -> list[FromEngine]:
        """What is said in place of a message that the bus can't carry: a step's news one by one; a sequence
        ends whose news alone are too large."""
        match message:
            case Step(deltas=[delta], prefilled=(), queued=()):
                logger.error("news of %s: %s", delta.sequence, error)
                self._inbox.put(Drop(frozenset({delta.sequence})))
                self._live.discard(delta.sequence)
                refusal = Refusal(RefusalCode.ENGINE_FAILED, "The answer was too large for the bus.")
                return [Refused(delta.sequence, refusal)]
            case Step(number=number, deltas=deltas, prefilled=prefilled, queued=queued) if deltas:
                rest = [Step(number, (), prefilled, queued)] if prefilled or queued else []
                return [*rest, *(Step(number, (delta,)) for delta in deltas)]
            case _:
                logger.error("a message was lost: %s", error)
                return []

    def _note(self, message: FromEngine) -> None:
        """Keep track of which sequences are under way."""
        match message:
            case Step(deltas=deltas):
                self._live.difference_update(delta.sequence for delta in deltas if delta.finish is not None)
            case Refused(sequence=sequence):
                self._live.discard(sequence)
            case PhaseChange(phase=phase, reason=reason) if phase is not Phase.LOADING:
                logger.info("%s: %s", phase, reason)
            case Hello() | Bound() | PhaseChange() | Accepted() | Beat():
                pass


def _end_if_node_is_gone() -> None:
    try:
        gone = not os.read(sys.stdin.fileno(), 4096)
    except OSError:
        gone = True
    if gone:
        # Nobody is left to tell, and the other thread may be deep in a computation.
        os._exit(1)
