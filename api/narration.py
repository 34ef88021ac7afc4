"""Tells a streaming client what its request's events say, as fast as it reads, and why it waits."""

import asyncio
from collections.abc import Callable
from typing import assert_never

from api.errors import ApiError, Fault
from api.outbox import Outbox
from api.settings import ApiSettings
from api.stream import EventStream, comment, waiting_comment
from api.telling import Telling
from bus.messages.generation import Refusal
from bus.messages.request import Admitted, Chunk, Completed, Failed, RequestEvent, Waiting


class Narration:
    """One stream from its first event to its last."""

    def __init__(
        self, stream: EventStream, telling: Telling, fault: Callable[[Refusal], Fault], settings: ApiSettings
    ) -> None:
        self._stream = stream
        self._telling = telling
        self._fault = fault
        self._settings = settings
        self._pulse: Waiting | str = "waiting"
        """What a comment says when nothing comes; a wait goes on from when it was told."""
        self._pulse_s = 0.0
        self._admitted = False
        self._completed = False
        self._failed: ApiError | None = None

    async def run(self, outbox: Outbox[RequestEvent]) -> None:
        """Write all that waits at once; where nothing is to tell, a comment. Raises ApiError, ClientGone.

        Until the request is admitted, or the time to hold the headers is over, nothing is sent: an error
        that comes first gets a status of its own.
        """
        loop = asyncio.get_running_loop()
        speaks_at = loop.time() + self._settings.hold_s
        while not self._completed:
            events = await outbox.take(speaks_at - loop.time())
            data = b"".join([self._words(event) for event in events])
            if data or (self._failed is None and loop.time() >= speaks_at):
                await self._stream.write(data or self._comment(loop.time()))
                speaks_at = loop.time() + self._settings.keep_alive_s
            if self._failed is not None:
                raise self._failed
        await self._stream.close()

    def _words(self, event: RequestEvent) -> bytes:
        match event:
            case Chunk():
                self._pulse = "generating"
                return self._telling.chunk(event)
            case Waiting():
                self._pulse, self._pulse_s = event, asyncio.get_running_loop().time()
                return waiting_comment(event) if self._stream.opened or self._admitted else b""
            case Admitted():
                self._admitted = True
                return self._telling.admitted(event) or comment("admitted")
            case Completed():
                self._completed = True
                return self._telling.completed(event)
            case Failed(refusal):
                self._failed = ApiError(self._fault(refusal))
                return b""
            case _:
                assert_never(event)

    def _comment(self, now_s: float) -> bytes:
        match self._pulse:
            case str(text):
                return comment(text)
            case Waiting() as waiting:
                return waiting_comment(waiting, now_s - self._pulse_s)
