"""Lets clients in by their keys, as many at once and as often as each may: an Admission by a file of keys."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from actors.running.rate import Departures
from api.errors import ApiError, ErrorKind, Fault
from api.keys import Grant, Keys

MINUTE_S: Final = 60.0


class KeyLimits:
    """See `api.admission.Admission`. On the event loop only.

    What is over a limit is refused at once, and told when there will be room: at the rate at which requests
    of the same key ended of late, or when the first of the last minute's is a minute old.
    """

    def __init__(self, keys: Keys, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds that never go back."""
        self._keys, self._clock = keys, clock
        self._used: dict[Grant, _Use] = {}

    def know(self, key: str) -> None:
        """Raises ApiError 401 for a key that stands for nobody."""
        self._grant(key)

    @contextmanager
    def enter(self, key: str, wished: int = 0) -> Iterator[int]:
        """A place for one request, until the block is left; gives its priority: its key's, or less if that
        is `wished`. Raises ApiError 401, 429."""
        grant = self._grant(key)
        use = self._used.setdefault(grant, _Use(grant))
        use.begin(self._clock())
        try:
            yield grant.priority + min(wished, 0)
        finally:
            use.end(self._clock())

    def _grant(self, key: str) -> Grant:
        grant = self._keys.grant(key)
        if grant is None:
            raise _unknown(key)
        return grant


class _Use:
    """What is used of one grant."""

    def __init__(self, grant: Grant) -> None:
        self._grant = grant
        self._running = 0
        self._departures = Departures()
        self._begun: deque[float] = deque(maxlen=grant.requests_per_minute or 0)
        """When the last ones began, as many as may within a minute."""

    def begin(self, now: float) -> None:
        """One more request. Raises ApiError 429."""
        grant = self._grant
        if grant.running is not None and self._running >= grant.running:
            wait_s = self._departures.wait_s(now, self._running + 1 - grant.running)
            raise _too_many(
                f"{self._running} requests are under way for this key, of {grant.running} at most", wait_s
            )
        if self._begun and len(self._begun) == self._begun.maxlen and now - self._begun[0] < MINUTE_S:
            limit = grant.requests_per_minute
            raise _too_many(
                f"{limit} requests a minute are what this key may send", MINUTE_S - (now - self._begun[0])
            )
        self._begun.append(now)
        self._running += 1
        self._departures.note(now, 0, self._running)

    def end(self, now: float) -> None:
        """One of them has ended, however it did."""
        self._running -= 1
        self._departures.note(now, 1, self._running)


def _unknown(key: str) -> ApiError:
    message = (
        "This API key is not known here." if key else "This node wants an API key: send it as a bearer token."
    )
    return ApiError(Fault(401, message, code="invalid_api_key", retry=False))


def _too_many(what: str, wait_s: float) -> ApiError:
    message = f"Too many requests: {what}. Try again in about {max(1, round(wait_s))} s."
    fault = Fault(429, message, ErrorKind.RATE_LIMIT, code="rate_limit_exceeded", retry_after_s=wait_s)
    return ApiError(fault)
