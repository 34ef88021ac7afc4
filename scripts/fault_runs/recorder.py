"""Keeps a run's history as it happens, and lets others wait for what it says."""

import asyncio
import time
from collections.abc import Callable

from scripts.fault_runs.history import AnyEvent

LOOK_S = 0.25
"""Not all that is waited for is an event."""


class Recorder:
    """The history of the run that is under way; used on one event loop only."""

    def __init__(self) -> None:
        self.events: list[AnyEvent] = []
        self._began_s = time.monotonic()
        self._waiting: dict[asyncio.Future[None], Callable[[], bool]] = {}

    @property
    def now_s(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._began_s

    def begin(self) -> None:
        """Forget what was; a new run begins now."""
        self.events = []
        self._began_s = time.monotonic()

    def add(self, event: AnyEvent) -> None:
        """Keep it, and wake those who waited for what holds now."""
        self.events.append(event)
        for future, holds in tuple(self._waiting.items()):
            if not future.done() and holds():
                future.set_result(None)

    async def until(self, holds: Callable[[], bool], within_s: float) -> bool:
        """Wait until `holds`, looked at with each event and now and then in between; False: in vain."""
        deadline_s = time.monotonic() + within_s
        while not holds():
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return False
            await self._next(holds, min(left_s, LOOK_S))
        return True

    async def _next(self, holds: Callable[[], bool], within_s: float) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting[future] = holds
        await asyncio.wait((future,), timeout=within_s)
        del self._waiting[future]
