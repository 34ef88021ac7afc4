"""What the engine holds and does, written by the step loop and read by the link for its beat."""

from collections import deque
from dataclasses import dataclass
from typing import Final

from bus.messages.engine import Beat

WINDOW: Final = 2
"""Beats that tokens per second are taken over: with two a second, the last second."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One consistent reading; replaced as a whole, so that another thread never sees half of it."""

    steps: int = 0
    tokens: int = 0
    """Decoded since the start."""
    running: int = 0
    prefilling: int = 0
    waiting: int = 0
    kv_bytes: int = 0
    active_bytes: int = 0
    cached_bytes: int = 0
    kv_limit_bytes: int = 0
    prefix_bytes: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    preempted: int = 0
    trails: tuple[int, ...] = ()


class Gauges:
    """Holds the latest reading, and the rank that this one waits for in the middle of work, if it does."""

    def __init__(self) -> None:
        self.reading = Reading()
        self.waiting_for = ""


class Pulse:
    """Makes beats of readings."""

    def __init__(self) -> None:
        self._earlier: deque[tuple[float, int]] = deque(maxlen=WINDOW)

    def beat(self, reading: Reading, now_s: float, waiting_for: str = "") -> Beat:
        """`now_s` on the monotonic clock."""
        rate = 0.0
        if self._earlier:
            then_s, tokens = self._earlier[0]
            rate = (reading.tokens - tokens) / max(now_s - then_s, 1e-3)
        self._earlier.append((now_s, reading.tokens))
        return Beat(
            steps=reading.steps,
            running=reading.running,
            prefilling=reading.prefilling,
            waiting=reading.waiting,
            kv_bytes=reading.kv_bytes,
            active_bytes=reading.active_bytes,
            cached_bytes=reading.cached_bytes,
            tokens_per_s=round(rate, 2),
            waiting_for=waiting_for,
            kv_limit_bytes=reading.kv_limit_bytes,
            prefix_bytes=reading.prefix_bytes,
            prompt_tokens=reading.prompt_tokens,
            cached_tokens=reading.cached_tokens,
            drafted_tokens=reading.drafted_tokens,
            accepted_tokens=reading.accepted_tokens,
            preempted=reading.preempted,
            trails=reading.trails,
        )
