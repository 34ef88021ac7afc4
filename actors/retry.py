"""The one retry policy: what is worth another try, and how often; `bus.backoff` says after how long."""

from dataclasses import dataclass

from bus.backoff import Backoff
from bus.messages.generation import RefusalCode

_PASSING = frozenset({RefusalCode.ENGINE_LOST})
"""Faults that a node tries to get over by itself. Every other one is for its client to act on: permanent ones
are never retried, and `overloaded` says when to come back."""

_PASSING_FOR_ADMITTED = _PASSING | {RefusalCode.OVERLOADED, RefusalCode.DOES_NOT_FIT}
"""Who was admitted is not sent away: its client sees an answer that pauses, also while there is no place."""


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
"""A request whose engine is lost under it goes on with another. Counted from its last new token: one whose
own computing ends engines is not handed to all of them in turn."""

DOOR_RETRIES = RetryPolicy(attempts=240, backoff=Backoff(first_s=0.02, longest_s=0.25))
"""A request that no engine has taken asks again, for about a minute: by then a node that fell silent has been
noticed, its model placed anew, and the way there is known. Where it waits in a line, it is not asking."""


FULL_WAITS = Backoff(first_s=0.25, longest_s=2.0)
"""A request that was admitted somewhere waits until another engine has room. Its deadline bounds that: who is
full says nothing of whether it will ever be answered."""


def is_passing(code: RefusalCode, admitted: bool = False) -> bool:
    """Whether the node itself tries again, for a request that was `admitted` somewhere already or was not."""
    return code in (_PASSING_FOR_ADMITTED if admitted else _PASSING)


@dataclass(slots=True)
class RequestTries:
    """What one request has been through. Its deadline bounds all of it; this bounds what is in vain."""

    taken: bool = False
    """By the engine that it was last dispatched to."""
    lost: int = 0
    """Engines, since its last new token."""
    untaken: int = 0
    """Times that nobody took it, since somebody did."""
    full: int = 0
    """Times that there was no room for it, since somebody took it."""

    def took(self) -> None:
        """An engine has accepted it."""
        self.taken, self.untaken, self.full = True, 0, 0

    def progressed(self) -> None:
        """There is a new token."""
        self.lost = 0

    def wait_s(self, code: RefusalCode, admitted: bool) -> float | None:
        """It was refused: how long to wait before it asks again; None: this is its end."""
        if not is_passing(code, admitted):
            return None
        if code is RefusalCode.OVERLOADED and not self.taken:
            self.full += 1
            return FULL_WAITS.wait_s(self.full)
        if self.taken:
            self.taken, self.lost = False, self.lost + 1
            return REQUEST_RETRIES.wait_s(self.lost)
        self.untaken += 1
        return DOOR_RETRIES.wait_s(self.untaken)
