"""Server-sent events to one client: headers with the first bytes, comments, and the client that left."""

import asyncio
import logging
import math

from aiohttp import web

from bus.messages.request import Waiting

logger = logging.getLogger(__name__)


class ClientGone(Exception):
    """The client closed its connection, or reads nothing any more."""


class EventStream:
    """One response of server-sent events; its headers go out with the first bytes."""

    def __init__(self, request: web.Request, stall_s: float) -> None:
        self._request = request
        self._stall_s = stall_s
        self.response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-cache",
                "X-Accel-Buffering": "no",
            }
        )

    @property
    def opened(self) -> bool:
        """The status is sent: from here on errors are in-band."""
        return self.response.prepared

    async def write(self, data: bytes) -> None:
        """Send; waits while the client is slow. Raises ClientGone."""
        try:
            if not self.response.prepared:
                await self.response.prepare(self._request)
            async with asyncio.timeout(self._stall_s):
                await self.response.write(data)
        except ConnectionError:
            raise ClientGone("the client closed its connection") from None
        except TimeoutError:
            self.abort()
            raise ClientGone(f"the client read nothing for {self._stall_s:g} s") from None

    async def close(self) -> None:
        """The regular end."""
        try:
            async with asyncio.timeout(self._stall_s):
                await self.response.write_eof()
        except ConnectionError:
            raise ClientGone("the client closed its connection") from None
        except TimeoutError:
            self.abort()
            raise ClientGone(f"the client read nothing for {self._stall_s:g} s") from None

    def abort(self) -> None:
        """Drop the connection with all that is still to be sent."""
        if self._request.transport is not None:
            self._request.transport.abort()


def comment(text: str) -> bytes:
    """A line that clients skip and that keeps the connection alive."""
    return f": {' '.join(text.split())}\n\n".encode()


def waiting_comment(event: Waiting, ago_s: float = 0.0) -> bytes:
    """Why there is nothing to show yet, how far it is and how long it takes, told so many seconds later."""
    words = [f"{event.reason} {event.done}/{event.total}" if event.total else event.reason]
    if event.place is not None:
        words[0] += f": {event.place} before it" if event.place else ": it is the next"
    if event.eta_s is not None and event.eta_s > ago_s:
        words.append(f"{math.ceil(event.eta_s - ago_s)} s left")
    return comment(", ".join(words))
