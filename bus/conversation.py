"""Commands, replies and notices with one peer, the same at both ends of a ROUTER and DEALER."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Final, TypeAlias, TypeVar

from bus.codec import Undecodable, decode_envelope, encode
from bus.counts import Count, Counts
from bus.errors import CommandTimeout, PeerGone, QueueFull, Refused, TooLarge
from bus.messages.base import Message
from bus.messages.envelope import Body, Command, Envelope, Notice, Reply
from bus.messages.generation import Refusal, RefusalCode
from bus.port import Sent
from bus.salvage import Unanswerable, salvage_envelope
from bus.traffic import Meter

logger = logging.getLogger(__name__)

R = TypeVar("R")

Answered: TypeAlias = Refusal | Body | None
"""A command's end: refused, done with something to say, or just done."""

Answer: TypeAlias = Answered | Awaitable[Answered]
"""The same, now or within the command's time."""

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
        answer: Callable[[Body], Answer],
    ) -> None:
        self._peer = peer
        self._counts = counts
        self._send = send
        self._receive = receive
        self._answer = answer
        self._numbers = count(1)
        self._pending: dict[int, asyncio.Future[Reply]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self.meter = Meter()

    # -- out ---------------------------------------------------------------------------------------

    def notify(self, body: Body) -> bool:
        """Send a notice; False: not sent, the peer is gone or does not keep up. Raises TooLarge."""
        return self._put(Notice(body)) is Sent.QUEUED

    async def command(self, body: Body, timeout_s: float) -> Body | None:
        """Send a command; returns what its reply says. Raises a BusError, one kind for each way to fail."""
        name = type(body).__name__
        if len(self._pending) >= PENDING_AT_MOST:
            raise QueueFull(f"{self._peer} has {PENDING_AT_MOST:,} commands to answer: {name} not sent")
        number = next(self._numbers)
        self._raise_unless_sent(name, self._put(Command(number, timeout_s, body)))
        waiting: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._pending[number] = waiting
        try:
            async with asyncio.timeout(timeout_s):
                reply = await waiting
        except TimeoutError:
            raise CommandTimeout(f"{self._peer} did not answer {name} within {timeout_s:g} s") from None
        finally:
            del self._pending[number]
        if reply.refusal is not None:
            raise Refused(reply.refusal)
        return reply.body

    def end(self, reason: str) -> None:
        """Fail every command that is still to be answered, by either side."""
        for waiting in self._pending.values():
            if not waiting.done():
                waiting.set_exception(PeerGone(f"{self._peer}: {reason}"))
        for task in self._answering:
            task.cancel()

    def _raise_unless_sent(self, name: str, sent: Sent) -> None:
        match sent:
            case Sent.QUEUED:
                return
            case Sent.FULL:
                raise QueueFull(f"{self._peer} does not keep up: {name} not sent")
            case Sent.GONE:
                raise PeerGone(f"{self._peer} is not connected: {name} not sent")

    def _put(self, envelope: Envelope) -> Sent:
        data = encode(envelope)
        sent = self._send(envelope, data)
        if sent is Sent.QUEUED:
            self.meter.said(len(data))
        else:
            self._counts.add(Count.UNSENT)
        return sent

    # -- in ----------------------------------------------------------------------------------------

    def take(self, data: memoryview) -> Envelope | None:
        """Act on the bytes of one message; what is no message is counted, and None is returned."""
        self.meter.heard(len(data))
        try:
            envelope: Envelope | Unanswerable | None = decode_envelope(data)
        except Undecodable as error:
            self._counts.drop(error.count, self._peer, error.detail)
            envelope = salvage_envelope(data) if error.count is Count.UNKNOWN_TYPE else None
        match envelope:
            case Notice(body=body):
                self.guard(type(body).__name__, lambda: self._receive(body))
            case Command():
                self._ask(envelope)
            case Reply():
                self._settle(envelope)
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
            return self._fault(what, error)

    def _fault(self, what: str, error: Exception) -> Exception:
        self._counts.add(Count.HANDLER_ERRORS)
        logger.error("%s: %s could not be handled", self._peer, what, exc_info=error)
        return error

    def _ask(self, command: Command) -> None:
        name = type(command.body).__name__
        answer = self.guard(name, lambda: self._answer(command.body))
        if answer is None or isinstance(answer, Refusal | Message | Exception):
            self._reply(command.number, answer)
            return
        task = asyncio.create_task(self._reply_later(command, answer), name=f"answer to {name}")
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _reply_later(self, command: Command, answer: Awaitable[Answered]) -> None:
        name = type(command.body).__name__
        deadline = asyncio.timeout(command.timeout_s)
        try:
            async with deadline:
                answered: Answered | Exception = await answer
        except Exception as error:
            if deadline.expired():
                # Its sender waits no longer.
                self._counts.drop(Count.LATE, self._peer, f"{name} took longer than {command.timeout_s:g} s")
                return
            answered = self._fault(name, error)
        self._reply(command.number, answered)

    def _reply(self, number: int, answer: Answered | Exception) -> None:
        match answer:
            case Exception():
                problem = f"{type(answer).__name__} in its handler; see the log"
                self._put(Reply(number, Refusal(RefusalCode.ENGINE_FAILED, problem)))
            case Refusal() | None:
                self._put(Reply(number, answer))
            case _:
                try:
                    self._put(Reply(number, body=answer))
                except TooLarge as error:
                    self._put(Reply(number, Refusal(RefusalCode.ENGINE_FAILED, str(error))))

    def _settle(self, reply: Reply) -> None:
        waiting = self._pending.get(reply.number)
        if waiting is None or waiting.done():
            self._counts.add(Count.LATE)
        else:
            waiting.set_result(reply)
