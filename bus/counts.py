"""What the bus dropped or had to mend: counted always, logged once per kind, peer and interval."""

import logging
import time
from collections import Counter
from collections.abc import Callable
from enum import StrEnum

logger = logging.getLogger(__name__)

LOG_INTERVAL_S = 60.0
LOGGED_AT_MOST = 1_024
"""(kind, peer) pairs remembered as logged: bounds the memory that a flood of new peers can take."""
DETAIL_CHARS = 200


class Count(StrEnum):
    """What is counted."""

    MALFORMED = "malformed"
    """Does not decode: not MessagePack, or not the fields that its type has."""
    OVERSIZED = "oversized"
    """Larger than `codec.MESSAGE_LIMIT`. (Much larger ones end their connection: see `sockets.py`.)"""
    UNKNOWN_TYPE = "unknown_type"
    """A message, or a fact, of a type that this version does not know or not expect there."""
    STRANGER = "stranger"
    """From a routing id that nobody here expects."""
    LATE = "late"
    """A reply after its deadline, or a message of a peer that was forgotten meanwhile."""
    UNSENT = "unsent"
    """Not sent, for the peer's queue was full or the peer was gone; its sender was told."""
    HANDLER_ERRORS = "handler_errors"
    """A callback of this process raised: a fault of ours, with its traceback in the log."""
    DISCONNECTED = "disconnected"
    """Connections to the ROUTER that ended, for whatever reason."""
    GAPS = "gaps"
    """Questions for facts that a reader had missed."""
    REPLAYS = "replays"
    """Such questions answered with the updates missed."""
    SNAPSHOTS = "snapshots"
    """Such questions answered with all facts."""


class Counts:
    """To be used on one thread; `as_dict` may be read from any."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counted: Counter[Count] = Counter()
        self._logged: dict[tuple[Count, str], float] = {}

    def __getitem__(self, count: Count) -> int:
        return self._counted[count]

    def __repr__(self) -> str:
        shown = ", ".join(f"{count}={n}" for count, n in self._counted.items())
        return f"<Counts {shown or 'none'}>"

    @property
    def remembered(self) -> int:
        """How many kinds and peers it would not log again now."""
        return len(self._logged)

    def add(self, count: Count) -> None:
        self._counted[count] += 1

    def drop(self, count: Count, peer: str, detail: str) -> None:
        """Count it, and log it unless the same kind was logged for this peer within the interval."""
        self.add(count)
        now = self._clock()
        last = self._logged.get((count, peer))
        if last is not None and now - last < LOG_INTERVAL_S:
            return
        if len(self._logged) >= LOGGED_AT_MOST:
            self._logged.clear()
        self._logged[count, peer] = now
        logger.warning(
            "Dropped a message, %s, of %s: %s (%d so far; more of these within %.0f s are only counted)",
            count,
            peer,
            detail[:DETAIL_CHARS],
            self._counted[count],
            LOG_INTERVAL_S,
        )

    def as_dict(self) -> dict[str, int]:
        """Every count by its name, those at zero too."""
        return {str(count): self._counted[count] for count in Count}
