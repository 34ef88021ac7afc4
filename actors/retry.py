"""The one retry policy: what is worth another try, and how often; `bus.backoff` says after how long."""

from dataclasses import dataclass

from bus.backoff import Backoff
from bus.messages.generation import RefusalCode

_PASSING = frozenset({RefusalCode.ENGINE_LOST})
"""Faults that a node tries to get over by itself. Every other one is for its client to act on: permanent ones
are never retried, and `overloaded` says when to come back."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Tries again so many times at most, with waits between that grow."""

    attempts: int
    backoff: Backoff

    def wait_s(self, failures: int) -> float | None:
        """How long to wait after the `failures`-th failure in a row (from 1); None: give up."""
        return None if failures > self.attempts else self.backoff.wait_s(failures)


ENGINE_RESTARTS = RetryPolicy(attempts=5, backoff=Backoff(first_s=0.2, longest_s=10.0))
"""An engine process that ended by itself is started again."""

REQUEST_RETRIES = RetryPolicy(attempts=3, backoff=Backoff(first_s=0.1, longest_s=2.0))
"""A request that lost its engine before the client saw anything is submitted again."""


def is_passing(code: RefusalCode) -> bool:
    """Whether the node itself tries again."""
    return code in _PASSING
