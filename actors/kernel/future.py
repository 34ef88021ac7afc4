"""A pykka future that can also be awaited, and that calls back, without blocking the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable, Generator
from types import TracebackType
from typing import TypeVar

import pykka

from actors.kernel.loop import call_on

logger = logging.getLogger(__name__)

T = TypeVar("T")
ExcInfo = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]


class Future(pykka.ThreadingFuture[T]):
    """A value to come. Threads `get` it, coroutines `await` it, anybody may be called back."""

    def __init__(self) -> None:
        super().__init__()
        self._callbacks: list[Callable[[], object]] = []

    def is_done(self) -> bool:
        return self._result is not None

    def set(self, value: T | None = None) -> None:
        super().set(value)
        self._call_back()

    def set_exception(self, exc_info: ExcInfo | None = None) -> None:
        super().set_exception(exc_info if exc_info is not None else sys.exc_info())
        self._call_back()

    def fail(self, error: BaseException) -> None:
        """Set an error that was not raised here."""
        self.set_exception((type(error), error, error.__traceback__))

    def when_done(self, callback: Callable[[], object]) -> None:
        """Call back in the thread that sets the value, or here and now if it is set already."""
        with self._condition:
            if self._result is None:
                self._callbacks.append(callback)
                return
        callback()

    def __await__(self) -> Generator[None, None, T]:
        """Wait without blocking the loop; pykka's own blocks it."""
        if (
            self._get_hook is not None
        ):  # of map, filter, reduce or join: known only by calling it, which may block
            value: T = yield from asyncio.to_thread(self.get).__await__()
            return value
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self.when_done(lambda: _wake(loop, waiter))
        yield from waiter
        result: T = self.get(timeout=0)
        return result

    def _call_back(self) -> None:
        with self._condition:
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            try:
                callback()
            except Exception:  # the others wait to be called too
                logger.exception("a callback of a future failed")


def _wake(loop: asyncio.AbstractEventLoop, waiter: asyncio.Future[None]) -> None:
    def resolve() -> None:
        if not waiter.done():
            waiter.set_result(None)

    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        call_on(loop, resolve)
