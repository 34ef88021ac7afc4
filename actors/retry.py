"""The one retry policy: what is worth another try, how often, and after how long."""

import random
from dataclasses import dataclass

from bus.messages.generation import RefusalCode

_PASSING = frozenset({RefusalCode.ENGINE_LOST})
"""Faults that a node tries to get over by itself. Every other one is for its client to act on: permanent ones
are never retried, and `overloaded` says when to come back."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Tries again `attempts` times at most, each after about twice the wait of the one before."""

    attempts: int
    first_s: float
    longest_s: float
    jitter: float = 0.2
    """A wait is spread by up to this share, so that many who failed together don't return together."""

    def delay_s(self, failures: int, randomness: random.Random) -> float | None:
        """How long to wait after the `failures`-th failure in a row (from 1); None: give up."""
        if failures > self.attempts:
            return None
        wait = min(self.longest_s, self.first_s * 2.0 ** (failures - 1))
        return wait * (1 + self.jitter * (2 * randomness.random() - 1))


ENGINE_RESTARTS = RetryPolicy(attempts=5, first_s=0.2, longest_s=10.0)
"""An engine process that ended by itself is started again."""

REQUEST_RETRIES = RetryPolicy(attempts=3, first_s=0.1, longest_s=2.0)
"""A request that lost its engine before the client saw anything is submitted again."""


def is_passing(code: RefusalCode) -> bool:
    """Whether the node itself tries again."""
    return code in _PASSING
