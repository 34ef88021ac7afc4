"""Who waits, who runs, and who is prefilled next."""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final, Generic, TypeVar

T = TypeVar("T")


MUCH_SHORTER: Final = 4
"""A prompt is much shorter than another if it goes into it so many times: below that, moving a KV cache out
of the way and back costs more than the wait."""

STEP_S: Final = 10.0
"""What one step of priority is worth: as if it had come so much earlier. Were priorities strict, those with
the least would wait for as long as others keep coming."""


@dataclass(frozen=True, slots=True, order=True)
class Rank:
    """A sequence's place in line."""

    turn_s: float
    """When its prompt would be computed if it were alone here, and what its priority is worth before that."""


def rank(priority: int, arrived_s: float, prefill_s: float) -> Rank:
    return Rank(arrived_s + prefill_s - priority * STEP_S)


@dataclass(frozen=True, slots=True)
class Room:
    """How full the batch is."""

    running: int
    """Sequences in it, decoding or being prefilled."""
    at_most: int
    prefilling: int = 0

    @property
    def free(self) -> int:
        return max(self.at_most - self.running, 0)


class Fit(Enum):
    """Whether somebody may begin now."""

    YES = auto()
    NOT_YET = auto()
    """Others may, who are behind it."""
    NOBODY = auto()
    """Nobody who is behind it may pass."""
    NEVER = auto()
    """It has been sent away."""


@dataclass(order=True, slots=True)
class _Waiting(Generic[T]):
    rank: Rank
    arrival: int
    tokens: int = field(compare=False)
    job: T = field(compare=False)


class WaitingLine(Generic[T]):
    """Sequences that wait for their prefill, by when they would be done with it if they were alone here, and
    by priority.

    That lets short prompts pass long ones that came a little earlier, but each prompt only for so long as
    its own prefill takes, and those of more priority only for what that is worth: nobody waits for ever. Even
    a prefill under way gives way to a prompt that is much shorter than what is left of it.
    """

    def __init__(self) -> None:
        self._heap: list[_Waiting[T]] = []
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def first(self) -> T | None:
        """Who is next; None: nobody waits."""
        return self._heap[0].job if self._heap else None

    def in_order(self) -> list[T]:
        """First who is next."""
        return [waiting.job for waiting in sorted(self._heap)]

    def add(self, job: T, tokens: int, rank: Rank) -> None:
        """Stand in line with so many tokens to compute."""
        self._arrivals += 1
        heapq.heappush(self._heap, _Waiting(rank, self._arrivals, tokens, job))

    def should_pass(self, rank: Rank, remaining: int) -> bool:
        """Whether the first in line should pass a prefill of this rank that is under way."""
        if not self._heap:
            return False
        first = self._heap[0]
        return first.rank < rank and first.tokens * MUCH_SHORTER <= remaining

    def drop(self, unwanted: Callable[[T], bool]) -> list[T]:
        """Take out those that are not wanted any more."""
        gone = [waiting.job for waiting in self._heap if unwanted(waiting.job)]
        if gone:
            self._heap = [waiting for waiting in self._heap if not unwanted(waiting.job)]
            heapq.heapify(self._heap)
        return gone

    def next_group(
        self,
        room: Room,
        slice_tokens: int,
        fits: Callable[[T, Sequence[T]], Fit] = lambda job, group: Fit.YES,
    ) -> list[T]:
        """Take out who is prefilled next, in one pass; nobody while a prefill is under way.

        The first in line, and with it others for whom the same slice has room: a pass computes as many
        tokens for each as the longest has, so all of them together take no longer than a slice may. `fits`
        is asked whether somebody may begin beside the group so far.
        """
        group: list[T] = []
        longest = 0
        passed_over = []
        while self._heap and not room.prefilling and len(group) < room.free:
            waiting = heapq.heappop(self._heap)
            if group and (len(group) + 1) * max(longest, waiting.tokens) > slice_tokens:
                passed_over.append(waiting)
                break
            fit = fits(waiting.job, group)
            if fit is Fit.YES:
                longest = max(longest, waiting.tokens)
                group.append(waiting.job)
                continue
            if fit is not Fit.NEVER:
                passed_over.append(waiting)
            if fit is Fit.NOBODY:
                break
        for waiting in passed_over:
            heapq.heappush(self._heap, waiting)
        return group
