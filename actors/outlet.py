"""Where a Request actor puts its events and an API handler takes them out."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

import msgspec

from bus.messages.request import Chunk, Completed, Failed, RequestEvent, Waiting

MERGE_ABOVE = 64
"""Events that may wait for a slow client before new ones are merged into them."""


class Outlet:
    """An ordered queue with one reader, on the event loop. It ends after Completed or Failed.

    A slow reader costs memory for its text, not for its events: beyond a bound, a chunk joins the last
    one that waits for the same answer.
    """

    def __init__(self) -> None:
        self._events: deque[RequestEvent] = deque()
        self._arrived = asyncio.Event()
        self.ended = False

    def put(self, event: RequestEvent) -> None:
        """Add an event; nothing can follow the terminal one."""
        if self.ended:
            return
        self.ended = isinstance(event, Completed | Failed)
        if not self._merge(event):
            self._events.append(event)
        self._arrived.set()

    def __aiter__(self) -> AsyncIterator[RequestEvent]:
        return self._read()

    async def _read(self) -> AsyncIterator[RequestEvent]:
        while True:
            while self._events:
                event = self._events.popleft()
                yield event
                if isinstance(event, Completed | Failed):
                    return
            self._arrived.clear()
            await self._arrived.wait()

    def _merge(self, event: RequestEvent) -> bool:
        """Join `event` to the last one of its kind, where that may be; false where it may not."""
        if not self._events:
            return False
        if isinstance(event, Waiting) and isinstance(self._events[-1], Waiting):
            self._events[-1] = event
            return True
        if isinstance(event, Chunk) and len(self._events) >= MERGE_ABOVE:
            return self._join(event)
        return False

    def _join(self, new: Chunk) -> bool:
        for place in range(len(self._events) - 1, -1, -1):
            old = self._events[place]
            if isinstance(old, Chunk) and old.index == new.index:
                if new.reasoning and (old.text or old.tool_calls):
                    return False  # a joined chunk is read as reasoning, then text, then calls
                if new.text and old.tool_calls:
                    return False
                self._events[place] = msgspec.structs.replace(
                    old,
                    text=old.text + new.text,
                    reasoning=old.reasoning + new.reasoning,
                    tool_calls=old.tool_calls + new.tool_calls,
                    logprobs=old.logprobs + new.logprobs,
                    generated=new.generated,
                    finish=new.finish,
                )
                return True
        return False
