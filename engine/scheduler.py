"""Who waits, who runs, and who is prefilled next."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

T = TypeVar("T")


MUCH_SHORTER: Final = 4
"""A prompt is much shorter than another if it goes into it so many times: below that, moving a KV cache out
of the way and back costs more than the wait."""


def rank(arrived_s: float, prefill_s: float) -> float:
    """A sequence's place in line: when its prompt would be computed if it were alone here."""
    return arrived_s + prefill_s


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


@dataclass(order=True, slots=True)
class _Waiting(Generic[T]):
    rank: float
    arrival: int
    tokens: int = field(compare=False)
    job: T = field(compare=False)


class WaitingLine(Generic[T]):
    """Sequences that wait for their prefill, by when they would be done with it if they were alone here.

    That lets short prompts pass long ones that came a little earlier, but each prompt only for so long as
    its own prefill takes: nobody waits for ever. Even a prefill under way gives way to a prompt that is
    much shorter than what is left of it.
    """

    def __init__(self) -> None:
        self._heap: list[_Waiting[T]] = []
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, job: T, tokens: int, rank: float) -> None:
        """Stand in line. `rank`: when its prefill would be done (see `rank`)."""
        self._arrivals += 1
        heapq.heappush(self._heap, _Waiting(rank, self._arrivals, tokens, job))

    def should_pass(self, rank: float, remaining: int) -> bool:
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

    def next_group(self, room: Room, slice_tokens: int) -> list[T]:
        """Take out who is prefilled next, in one pass; nobody while a prefill is under way.

        The first in line, and with it others for whom the same slice has room: a pass computes as many
        tokens for each as the longest has, so all of them together take no longer than a slice may.
        """
        if room.prefilling or not room.free or not self._heap:
            return []
        group = [heapq.heappop(self._heap)]
        longest = group[0].tokens
        passed_over = []
        while self._heap and len(group) < room.free:
            waiting = heapq.heappop(self._heap)
            if (len(group) + 1) * max(longest, waiting.tokens) > slice_tokens:
                passed_over.append(waiting)
                break
            longest = max(longest, waiting.tokens)
            group.append(waiting)
        for waiting in passed_over:
            heapq.heappush(self._heap, waiting)
        return [waiting.job for waiting in group]
