"""What the bus dropped or had to mend: counted always, logged once per kind, peer and interval."""

import logging
import math
import threading
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
    REFUSED_JOINS = "refused_joins"
    """Connections of who did not show the cluster's key: they were heard no further."""
    REFUSED_GREETINGS = "refused_greetings"
    """Nodes with the key that this one can't work with: another protocol, or an id that is taken."""
    EARLY = "early"
    """Said by a node before its greeting, or to a node that is not ready to listen yet."""
    LOST_MEMBERS = "lost_members"
    """Members that left, in whatever way."""
    OTHER_CLUSTERS = "other_clusters"
    """Nodes seen on the local network that have another key."""


class Counts:
    """To be used from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
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
        with self._lock:
            self._counted[count] += 1

    def drop(self, count: Count, peer: str, detail: str) -> None:
        """Count it, and log it unless the same kind was logged for this peer within the interval."""
        self.add(count)
        if self._is_news(count, peer, LOG_INTERVAL_S):
            logger.warning(
                "Dropped a message, %s, of %s: %s (%d so far; more of these within %.0f s are only counted)",
                count,
                peer,
                detail[:DETAIL_CHARS],
                self._counted[count],
                LOG_INTERVAL_S,
            )

    def refuse(self, address: str, detail: str) -> None:
        """Count who tried to join without the cluster's key, and log each address once."""
        self.add(Count.REFUSED_JOINS)
        if self._is_news(Count.REFUSED_JOINS, address, math.inf):
            logger.warning(
                "Somebody at %s tried to join and was refused: %s. If it is to be a node of this cluster, "
                "give it the same --cluster-key. (More of these from there are only counted.)",
                address,
                detail[:DETAIL_CHARS],
            )

    def once(self, count: Count, peer: str, problem: str) -> None:
        """Count it, and log the problem if it was not logged for this peer before."""
        self.add(count)
        if self._is_news(count, f"{peer}: {problem}", math.inf):
            logger.warning("%s: %s", peer, problem)

    def as_dict(self) -> dict[str, int]:
        """Every count by its name, those at zero too."""
        return {str(count): self._counted[count] for count in Count}

    def _is_news(self, count: Count, peer: str, interval_s: float) -> bool:
        now = self._clock()
        with self._lock:
            last = self._logged.get((count, peer))
            if last is not None and now - last < interval_s:
                return False
            if len(self._logged) >= LOGGED_AT_MOST:
                self._logged.clear()
            self._logged[count, peer] = now
            return True
