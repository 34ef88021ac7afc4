"""When a supervisor restarts, what, after how long, and when it gives up: the rules, without any actor."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from bus.backoff import Backoff

T = TypeVar("T")


class Strategy(enum.Enum):
    """Who is restarted when one child ends."""

    ONE_FOR_ONE = enum.auto()
    """That child."""

    REST_FOR_ONE = enum.auto()
    """That child, and those started after it, which may rely on it."""


class Restart(enum.Enum):
    """Whether a child is restarted when it ends."""

    PERMANENT = enum.auto()
    """Always."""

    TRANSIENT = enum.auto()
    """After a failure or a kill, not after a stop in order."""

    TEMPORARY = enum.auto()
    """Never."""


class TooManyRestarts(Exception):
    """A supervisor gives up; its own supervisor decides what to do."""


@dataclass(frozen=True, slots=True)
class Intensity:
    """How many restarts within how many seconds are borne; the next is one too many.

    The wait before a restart grows with each in the period: a child that fails at once does not spin.
    """

    restarts: int = 3
    period_s: float = 5.0
    backoff: Backoff = field(default_factory=lambda: Backoff(first_s=0.1, longest_s=5.0))


@dataclass(frozen=True, slots=True)
class History:
    """When, in seconds of a monotonic clock, a supervisor restarted something of late."""

    times_s: tuple[float, ...] = ()

    def with_restart(self, now_s: float, intensity: Intensity) -> History:
        """Raises TooManyRestarts."""
        recent = tuple(time_s for time_s in self.times_s if now_s - time_s <= intensity.period_s)
        if len(recent) >= intensity.restarts:
            raise TooManyRestarts(f"more than {intensity.restarts} restarts in {intensity.period_s} s")
        return History((*recent, now_s))


def is_restarted(restart: Restart, cause: BaseException | None) -> bool:
    match restart:
        case Restart.PERMANENT:
            return True
        case Restart.TRANSIENT:
            return cause is not None
        case Restart.TEMPORARY:
            return False


def affected(children: Sequence[T], ended: T, strategy: Strategy) -> Sequence[T]:
    """Those that stop because `ended` did, itself first, in the order of their start."""
    match strategy:
        case Strategy.ONE_FOR_ONE:
            return (ended,)
        case Strategy.REST_FOR_ONE:
            return children[children.index(ended) :]
