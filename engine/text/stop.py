"""Stop strings that may span tokens: held back while they may still match, and never shown."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Passage:
    """What a piece of text lets through."""

    text: str
    """Safe to show."""
    stop: str | None = None
    """The stop string that ended the answer."""
    dropped: int = 0
    """Characters from the beginning of the match on, which nobody will see."""


class StopMatcher:
    """Lets text through up to the first stop string, and holds back what may become one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""

    @property
    def held(self) -> int:
        """Characters that wait for what comes next."""
        return len(self._held)

    def feed(self, text: str, may_stop: bool = True) -> Passage:
        """Take more text; nothing may be fed after a match. Without `may_stop` this piece completes none."""
        if not self._stops:
            return Passage(text)
        waiting = self._held + text
        match = self._first_match(waiting) if may_stop else None
        if match is not None:
            start, stop = match
            self._held = ""
            return Passage(waiting[:start], stop, len(waiting) - start)
        safe = len(waiting) - self._longest_beginning(waiting)
        self._held = waiting[safe:]
        return Passage(waiting[:safe])

    def flush(self) -> str:
        """The text ended: what was held back was no stop string."""
        text, self._held = self._held, ""
        return text

    def _first_match(self, text: str) -> tuple[int, str] | None:
        found = [(start, stop) for stop in self._stops if (start := text.find(stop)) >= 0]
        return min(found, key=lambda match: match[0], default=None)

    def _longest_beginning(self, text: str) -> int:
        """Length of the longest end of `text` that a stop string begins with."""
        longest = min(len(text), max(map(len, self._stops)) - 1)
        for length in range(longest, 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0
