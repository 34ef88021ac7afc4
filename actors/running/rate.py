"""How soon there is room again in a line: by the rate at which it has moved of late. Pure."""

from collections import deque
from typing import Final

WINDOW_S: Final = 120.0
"""Time under load that counts as of late."""

SAMPLE: Final = 1024
"""Departures that are remembered, at most: many leave at once when they began together."""

SHORTEST_S: Final = 1.0
LONGEST_S: Final = 300.0
"""What a client is told to wait, at least and at most."""


class Departures:
    """When those that were in a line left it, by a clock that stands still while nobody is in it.

    All times are in seconds of one clock that does not jump; `now` never goes back.
    """

    def __init__(self) -> None:
        self._load_s = 0.0
        """Time under load so far."""
        self._seen: float | None = None
        """Up to when it is counted; None: nobody is in the line."""
        self._left: deque[float] = deque([0.0], maxlen=SAMPLE + 1)
        """When, in time under load; the first one is where the counting begins."""

    def note(self, now: float, left: int, remaining: int) -> None:
        """The line changed: so many left it, for whatever reason, and so many are in it."""
        self._advance(now)
        self._left.extend([self._load_s] * left)
        self._seen = now if remaining else None

    def wait_s(self, now: float, count: int) -> float:
        """How long it takes until so many more have left, from SHORTEST_S to LONGEST_S.

        They are taken to leave as they did of late. The next one is counted as leaving now: where none has
        left yet, the answer grows with the time that passes without one.
        """
        self._advance(now)
        per_departure_s = (self._load_s - self._left[0]) / len(self._left)
        return min(max(count * per_departure_s, SHORTEST_S), LONGEST_S)

    def _advance(self, now: float) -> None:
        if self._seen is not None:
            self._load_s += now - self._seen
            self._seen = now
        while len(self._left) > 1 and self._left[1] < self._load_s - WINDOW_S:
            self._left.popleft()
