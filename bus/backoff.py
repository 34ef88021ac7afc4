"""How long to wait before trying again: the one rule, for whatever is tried again anywhere."""

import random
from dataclasses import dataclass

_MOST_DOUBLINGS = 60
"""Beyond any longest wait, and far from where a float overflows."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits double from the first to the longest, and are spread, so that many who failed together don't
    come back together."""

    first_s: float
    longest_s: float
    jitter: float = 0.2
    """A wait is longer or shorter by up to this share of it."""

    def wait_s(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row, counted from 1."""
        doublings = min(max(0, failures - 1), _MOST_DOUBLINGS)
        wait = min(self.first_s * 2.0**doublings, self.longest_s)
        return wait * random.uniform(1 - self.jitter, 1 + self.jitter)
