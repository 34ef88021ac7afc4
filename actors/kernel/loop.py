"""The event loop that `LoopActor`s and timers live on, and how to reach it from any thread."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import ClassVar, Self


class NoLoop(RuntimeError):
    """A LoopActor or a timer was started before anybody said which event loop to use."""

    def __init__(self) -> None:
        super().__init__(
            "no event loop is bound: call actors.kernel.loop.bind_loop(loop) where the loop is run"
        )


class LoopBinding:
    """A loop's time as the bound one, until `release` or the end of its `with` block. Of several that are not
    released, in whatever order they are, the latest counts."""

    _held: ClassVar[list[LoopBinding]] = []

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        LoopBinding._held.append(self)

    @classmethod
    def current(cls) -> asyncio.AbstractEventLoop:
        held = cls._held[-1:]  # another thread may release it meanwhile
        if not held:
            raise NoLoop
        return held[0].loop

    def release(self) -> None:
        with contextlib.suppress(ValueError):  # released before
            LoopBinding._held.remove(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def bind_loop(loop: asyncio.AbstractEventLoop) -> LoopBinding:
    """Let LoopActors and timers that are started from now on, in any thread, live on `loop`."""
    return LoopBinding(loop)


def bound_loop() -> asyncio.AbstractEventLoop:
    """The loop that is bound now. Raises NoLoop."""
    return LoopBinding.current()


def is_running_here(loop: asyncio.AbstractEventLoop | None = None) -> bool:
    """Whether this thread is running `loop`; without one: running any."""
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        return False
    return loop is None or running is loop


def call_on(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
    """Call at once on the loop's own thread, soon from another. RuntimeError: the loop is closed."""
    if is_running_here(loop):
        callback()
    else:
        loop.call_soon_threadsafe(callback)


class Timer:
    """One call on the loop, `delay_s` seconds after its start, unless cancelled before.

    Any thread may start and cancel it. `forget` is called with the timer once it is of no further use.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        delay_s: float,
        callback: Callable[[], object],
        forget: Callable[[Timer], object],
    ) -> None:
        self._loop = loop
        self._when = loop.time() + delay_s
        self._callback: Callable[[], object] | None = callback
        self._forget = forget
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        call_on(self._loop, self._arm)

    def is_set(self) -> bool:
        """Whether it will still call back."""
        return self._callback is not None

    def cancel(self) -> None:
        """Never call back from now on; nothing happens if it has."""
        self._callback = None
        self._forget(self)
        with contextlib.suppress(RuntimeError):  # a closed loop calls nobody
            call_on(self._loop, self._disarm)

    def _arm(self) -> None:
        if self._callback is not None:
            self._handle = self._loop.call_at(self._when, self._fire)

    def _disarm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()

    def _fire(self) -> None:
        callback = self._callback
        if callback is not None:
            callback()
            self._callback = None
            self._forget(self)
