"""How many BLAS threads a step gets: all of them for prefill, and for decode as many as are worth it.

Products of a decode step are small. More threads make them little faster or even slower, and OpenBLAS's
threads spin while they wait for each other: time that the node, which sends the tokens out, does not get.
On two x86-64 cores with a Llama of 3 million parameters, 32 streams made 3,400 tokens/s with one thread in
decode and 2,600 with two. Large models on many cores want more, so what is worth it is measured at warm-up.
"""

from collections.abc import Mapping
from typing import Final

from host.blas_threads import SetThreads

WORTH_IT: Final = 0.85
"""More threads are taken if a decode step then takes at most this share of its time with fewer."""


class Threads:
    """The number of BLAS threads, set when it changes. Without a way to set it, it stays as it is."""

    def __init__(self, most: int = 1, set_threads: SetThreads | None = None) -> None:
        self._set = set_threads
        self._most = most if set_threads else 1
        self._decode = self._most
        self._now = self._most

    @property
    def candidates(self) -> tuple[int, ...]:
        """What decode may be tried with, fewest first; one alone: there is nothing to choose."""
        return tuple(sorted({1, max(1, self._most // 2), self._most}))

    def settle(self, decode_s: Mapping[int, float]) -> None:
        """Choose for decode, from how long a step took with each candidate."""
        self._decode = worth_it(decode_s)

    def try_decode(self, count: int) -> None:
        """Go on with so many, to measure."""
        self._use(count)

    def for_step(self, prefills: bool) -> None:
        """Set what the next step gets."""
        self._use(self._most if prefills else self._decode)

    def _use(self, count: int) -> None:
        if self._set is not None and count != self._now:
            self._set(count)
            self._now = count


def worth_it(decode_s: Mapping[int, float]) -> int:
    """The smallest number of threads that no larger one beats by enough."""
    chosen, *others = sorted(decode_s)
    for count in others:
        if decode_s[count] < WORTH_IT * decode_s[chosen]:
            chosen = count
    return chosen
