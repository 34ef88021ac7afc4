"""What waits for a client that reads at its own pace: filled by one task, emptied by another."""

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class OutboxClosed(Exception):
    """There is nothing left and nothing more will come."""


class Outbox(Generic[T]):
    """Items in order; once `limit` of them wait, a new one is merged with the latest of its key."""

    def __init__(self, key: Callable[[T], Hashable], merge: Callable[[T, T], T], limit: int = 0) -> None:
        self._key = key
        self._merge = merge
        self._limit = limit
        self._items: list[T] = []
        self._latest: dict[Hashable, int] = {}
        self._end: Exception | None = None
        self._waker: asyncio.Future[None] | None = None

    def put(self, item: T) -> None:
        """Add an item; never waits."""
        key = self._key(item)
        place = self._latest.get(key)
        if place is not None and len(self._items) >= self._limit:
            self._items[place] = self._merge(self._items[place], item)
        else:
            self._latest[key] = len(self._items)
            self._items.append(item)
        self._wake()

    def close(self, error: Exception | None = None) -> None:
        """Nothing more will come: `take` gives what is left, then raises the error or OutboxClosed."""
        self._end = error or OutboxClosed("the events ended before their time")
        self._wake()

    async def take(self, timeout_s: float) -> list[T]:
        """All that waits; empty when nothing came in time."""
        if not self._items and self._end is None:
            await self._wait(timeout_s)
        if not self._items and self._end is not None:
            raise self._end
        items, self._items = self._items, []
        self._latest.clear()
        return items

    async def _wait(self, timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._waker = loop.create_future()
        alarm = loop.call_later(max(0.0, timeout_s), self._wake)
        try:
            await self._waker
        finally:
            alarm.cancel()
            self._waker = None

    def _wake(self) -> None:
        if self._waker is not None and not self._waker.done():
            self._waker.set_result(None)
