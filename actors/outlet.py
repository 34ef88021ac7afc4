"""Where a Request actor puts its events and an API handler takes them out."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from bus.messages.request import Completed, Failed, RequestEvent


class Outlet:
    """An ordered queue with one reader, on the event loop. It ends after Completed or Failed.

    It has no bound, for its reader never waits on a client: the API merges what a slow one has not read.
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
        self._events.append(event)
        self._arrived.set()

    async def __aiter__(self) -> AsyncIterator[RequestEvent]:
        while True:
            while self._events:
                event = self._events.popleft()
                yield event
                if isinstance(event, Completed | Failed):
                    return
            self._arrived.clear()
            await self._arrived.wait()
