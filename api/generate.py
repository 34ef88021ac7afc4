"""The course of a generation over HTTP: opened, followed, told; and cancelled by leaving."""

import asyncio
import logging
from collections.abc import AsyncIterator, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import msgspec
from aiohttp import web

from actors.gateway import Gateway, Generation
from api.admission import Admission, key_of
from api.errors import ApiError, Fault, Fields, fault_of, internal, stopping
from api.metrics import Meter, Metrics
from api.narration import Narration
from api.outbox import Outbox
from api.settings import ApiSettings
from api.stream import ClientGone, EventStream
from api.telling import Answer, Telling
from bus.messages.base import RequestId
from bus.messages.generation import Refusal, RefusalCode
from bus.messages.request import (
    Admitted,
    Chunk,
    Completed,
    Failed,
    Order,
    RequestEvent,
    Usage,
    Waiting,
)

logger = logging.getLogger(__name__)

BACKLOG = 64
"""Events that may wait for a slow client before they are merged."""


class Generations:
    """All requests that this server has under way."""

    def __init__(
        self, gateway: Gateway, settings: ApiSettings, metrics: Metrics, admission: Admission
    ) -> None:
        self.settings = settings
        self.fingerprint = f"exo_actors-{settings.version}"
        self._gateway = gateway
        self._metrics = metrics
        self._admission = admission
        self._live: set[Generation] = set()
        self._parted: dict[RequestId, _Parted] = {}
        """Orders that are carried out in parts."""
        self._stopping = False

    def stop(self) -> None:
        """Cancel what runs, each with an error that says why; take nothing new."""
        self._stopping = True
        for generation in tuple(self._live):
            generation.cancel("the node is shutting down")

    def cancel(self, request: RequestId, reason: str) -> bool:
        """Kill a request of this node; False: there is no such request (any more)."""
        parted = self._parted.get(request)
        if parted is None:
            return self._gateway.cancel(request, reason)
        parted.cancel(reason)
        return True

    async def whole(
        self, request: web.Request, order: Order, answer: Answer, fields: Fields, most: int | None = None
    ) -> web.Response:
        """Follow a request to its end, and answer in one piece. Raises ApiError.

        With `most`, an order of more prompts is carried out in parts of so many, one after the other, so
        that it does not fill the queue for everybody else; for one answer to each prompt only.
        """
        usage = Usage(0, 0)
        with self._admitted(request, order) as ranked, self._in_parts(order) as parted:
            for first, part in _parts(ranked, most or len(order.prompts)):
                if parted.refusal is not None:
                    raise ApiError(self._fault(parted.refusal, fields))
                end = await self._followed(part, first, answer, fields, parted)
                usage = _added(usage, end.usage)
        return web.Response(body=answer.completed(Completed(usage)), content_type="application/json")

    @contextmanager
    def _in_parts(self, order: Order) -> Iterator["_Parted"]:
        """It can be cancelled as a whole, whichever of its parts is under way."""
        parted = self._parted[order.request] = _Parted()
        try:
            yield parted
        finally:
            del self._parted[order.request]

    async def _followed(
        self, order: Order, first: int, answer: Answer, fields: Fields, parted: "_Parted"
    ) -> Completed:
        """Tell the answer what comes, its first index being this one, up to the good end."""
        end: Completed | Failed | None = None
        async with self._open(order) as (generation, meter):
            parted.part = generation
            async for event in generation:
                meter.observe(event)
                match event:
                    case Chunk():
                        answer.chunk(msgspec.structs.replace(event, index=first + event.index))
                    case Admitted():
                        answer.admitted(event)
                    case Completed() | Failed():
                        end = event
                    case Waiting():
                        pass
        match end:
            case Completed():
                return end
            case Failed(refusal):
                raise ApiError(self._fault(refusal, fields))
            case None:
                raise RuntimeError(f"the events of {order.request} ended before their time")

    async def stream(
        self, request: web.Request, order: Order, telling: Telling, fields: Fields
    ) -> web.StreamResponse:
        """Follow a request to its end, and tell it as it goes. Raises ApiError before the first byte only."""
        stream = EventStream(request, self.settings.stall_s)
        narration = Narration(stream, telling, lambda r: self._fault(r, fields), self.settings)
        try:
            with self._admitted(request, order) as ranked:
                async with self._open(ranked) as (generation, meter), _filled(generation, meter) as outbox:
                    await narration.run(outbox)
        except ClientGone as gone:
            logger.debug("%s: %s", order.request, gone)
        except Exception as error:
            if not stream.opened:
                raise
            await _break_off(stream, telling, error)
        return stream.response

    @contextmanager
    def _admitted(self, request: web.Request, order: Order) -> Iterator[Order]:
        """The order at its key's priority, while there is a place for it. Raises ApiError."""
        if self._stopping:
            raise ApiError(stopping())
        with self._admission.enter(key_of(request), order.priority) as priority:
            yield msgspec.structs.replace(order, priority=priority)

    @asynccontextmanager
    async def _open(self, order: Order) -> AsyncIterator[tuple[Generation, Meter]]:
        """A request under way; leaving the block before its end kills its actor."""
        if self._stopping:
            raise ApiError(stopping())
        async with self._gateway.open(order) as generation:
            self._live.add(generation)
            try:
                with self._metrics.meter() as meter:
                    yield generation, meter
            finally:
                self._live.discard(generation)

    def _fault(self, refusal: Refusal, fields: Fields) -> Fault:
        if self._stopping and refusal.code is RefusalCode.CANCELLED:
            return stopping()
        return fault_of(refusal, fields)


@dataclass
class _Parted:
    """An order that is carried out in parts, one after the other."""

    part: Generation | None = None
    """The last that was begun."""
    refusal: Refusal | None = None
    """Why no other one is begun."""

    def cancel(self, reason: str) -> None:
        """End the part that is under way, if one is; the next one is not begun."""
        self.refusal = Refusal(RefusalCode.CANCELLED, reason)
        if self.part is not None:
            self.part.cancel(reason)


def _parts(order: Order, most: int) -> Iterator[tuple[int, Order]]:
    """An order as one or several of so many prompts at most, each with the index of its first answer."""
    if len(order.prompts) <= most:
        yield 0, order
        return
    for first in range(0, len(order.prompts), most):
        name = RequestId(f"{order.request}-{first // most + 1}")
        prompts = order.prompts[first : first + most]
        yield first, msgspec.structs.replace(order, request=name, prompts=prompts)


def _added(one: Usage, other: Usage) -> Usage:
    return Usage(
        one.prompt_tokens + other.prompt_tokens,
        one.completion_tokens + other.completion_tokens,
        one.reasoning_tokens + other.reasoning_tokens,
        one.cached_tokens + other.cached_tokens,
    )


async def _break_off(stream: EventStream, telling: Telling, error: Exception) -> None:
    """The error in-band, then the end of the connection: the status is sent already."""
    if isinstance(error, ApiError):
        fault = error.fault
    else:
        logger.error("A stream broke off", exc_info=error)
        fault = internal()
    stream.response.force_close()
    try:
        await stream.write(telling.failed(fault))
        await stream.close()
    except ClientGone as gone:
        logger.debug("After an error: %s", gone)


@asynccontextmanager
async def _filled(generation: Generation, meter: Meter) -> AsyncIterator[Outbox[RequestEvent]]:
    """An outbox that the generation's events go into, however slowly it is emptied."""
    outbox = Outbox[RequestEvent](_key, _merge, BACKLOG)

    async def fill() -> None:
        try:
            async for event in generation:
                meter.observe(event)
                outbox.put(event)
        except Exception as error:
            outbox.close(error)
        else:
            outbox.close()

    task = asyncio.create_task(fill())
    try:
        yield outbox
    finally:
        task.cancel()
        await asyncio.wait((task,))


def _key(event: RequestEvent) -> Hashable:
    """Chunks wait apart for each answer; of the others there is at most one of a kind to tell."""
    return event.index if isinstance(event, Chunk) else type(event)


def _merge(earlier: RequestEvent, later: RequestEvent) -> RequestEvent:
    """Two chunks of one answer become one; of anything else the later counts."""
    if not (isinstance(earlier, Chunk) and isinstance(later, Chunk)):
        return later
    return msgspec.structs.replace(
        later,
        text=earlier.text + later.text,
        reasoning=earlier.reasoning + later.reasoning,
        tool_calls=earlier.tool_calls + later.tool_calls,
        logprobs=earlier.logprobs + later.logprobs,
        finish=later.finish or earlier.finish,
    )
