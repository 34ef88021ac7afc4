"""Commands, replies and notices with one peer, the same at both ends of a ROUTER and DEALER."""

import asyncio
import logging
from collections.abc import Callable
from itertools import count
from typing import Final, TypeVar

from bus.codec import Undecodable, decode_envelope, encode
from bus.counts import Count, Counts
from bus.errors import CommandTimeout, PeerGone, QueueFull, Refused
from bus.messages.envelope import Body, Command, Envelope, Notice, Reply
from bus.messages.generation import Refusal, RefusalCode
from bus.port import Sent
from bus.salvage import Unanswerable, salvage_envelope

logger = logging.getLogger(__name__)

R = TypeVar("R")

PENDING_AT_MOST: Final = 4_096
"""Commands to one peer that wait for their replies."""

_NOT_UNDERSTOOD: Final = Refusal(
    RefusalCode.INVALID, "The command was not understood: its sender and its receiver differ in version."
)


class Conversation:
    """What one peer was asked and has yet to answer, and who takes what it says."""

    def __init__(
        self,
        peer: str,
        counts: Counts,
        *,
        send: Callable[[Envelope, bytes], Sent],
        receive: Callable[[Body], None],
        answer: Callable[[Body], Refusal | None],
    ) -> None:
        self._peer = peer
        self._counts = counts
        self._send = send
        self._receive = receive
        self._answer = answer
        self._numbers = count(1)
        self._pending: dict[int, asyncio.Future[Refusal | None]] = {}

    # -- out ---------------------------------------------------------------------------------------

    def notify(self, body: Body) -> bool:
        """Send a notice; False: not sent, the peer is gone or does not keep up. Raises TooLarge."""
        return self._put(Notice(body)) is Sent.QUEUED

    async def command(self, body: Body, timeout_s: float) -> None:
        """Send a command and wait for its reply. Raises a BusError, one kind for each way to fail."""
        name = type(body).__name__
        if len(self._pending) >= PENDING_AT_MOST:
            raise QueueFull(f"{self._peer} has {PENDING_AT_MOST:,} commands to answer: {name} not sent")
        number = next(self._numbers)
        self._raise_unless_sent(name, self._put(Command(number, timeout_s, body)))
        reply = self._pending[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s):
                refusal = await reply
        except TimeoutError:
            raise CommandTimeout(f"{self._peer} did not answer {name} within {timeout_s:g} s") from None
        finally:
            del self._pending[number]
        if refusal is not None:
            raise Refused(refusal)

    def end(self, reason: str) -> None:
        """Fail every command that is still to be answered."""
        for reply in self._pending.values():
            if not reply.done():
                reply.set_exception(PeerGone(f"{self._peer}: {reason}"))

    def _raise_unless_sent(self, name: str, sent: Sent) -> None:
        match sent:
            case Sent.QUEUED:
                return
            case Sent.FULL:
                raise QueueFull(f"{self._peer} does not keep up: {name} not sent")
            case Sent.GONE:
                raise PeerGone(f"{self._peer} is not connected: {name} not sent")

    def _put(self, envelope: Envelope) -> Sent:
        sent = self._send(envelope, encode(envelope))
        if sent is not Sent.QUEUED:
            self._counts.add(Count.UNSENT)
        return sent

    # -- in ----------------------------------------------------------------------------------------

    def take(self, data: memoryview) -> Envelope | None:
        """Act on the bytes of one message; what is no message is counted, and None is returned."""
        try:
            envelope: Envelope | Unanswerable | None = decode_envelope(data)
        except Undecodable as error:
            self._counts.drop(error.count, self._peer, error.detail)
            envelope = salvage_envelope(data) if error.count is Count.UNKNOWN_TYPE else None
        match envelope:
            case Notice(body=body):
                self.guard(type(body).__name__, lambda: self._receive(body))
            case Command(number=number, body=body):
                self._put(Reply(number, self._ask(body)))
            case Reply(number=number, refusal=refusal):
                self._settle(number, refusal)
            case Unanswerable(number=number):
                self._put(Reply(number, _NOT_UNDERSTOOD))
                return None
            case None:
                return None
        return envelope

    def guard(self, what: str, handler: Callable[[], R]) -> R | Exception:
        """Call a handler; a fault of it ends here, and must not reach the socket."""
        try:
            return handler()
        except Exception as error:
            self._counts.add(Count.HANDLER_ERRORS)
            logger.exception("%s: %s could not be handled", self._peer, what)
            return error

    def _ask(self, body: Body) -> Refusal | None:
        answer = self.guard(type(body).__name__, lambda: self._answer(body))
        if isinstance(answer, Exception):
            problem = f"{type(answer).__name__} in its handler; see the log"
            return Refusal(RefusalCode.ENGINE_FAILED, problem)
        return answer

    def _settle(self, number: int, refusal: Refusal | None) -> None:
        reply = self._pending.get(number)
        if reply is None or reply.done():
            self._counts.add(Count.LATE)
        else:
            reply.set_result(refusal)
