"""How large a prefill slice may be, so that the streams that decode keep their pace."""

import math
from dataclasses import dataclass, field, replace
from typing import Final

from engine.memory.footprint import LARGEST_SLICE
from engine.regression import Line

SMALLEST: Final = 16
"""Tokens. Below it a slice's fixed cost outweighs what its tokens cost."""
IDLE_S: Final = 0.5
"""How long a slice may take while nobody waits for a token: what a cancel or a new request waits for."""
SHARE: Final = 0.75
"""Of their step, by which streams may be slowed that are slower than the pace already: less than twice."""
CROWDED: Final = 2.0
"""The pace may be stretched so far while many prompts wait, so that they share the machine with streams."""
WEIGHT: Final = 2.0
"""Each prompt counts there as so many streams: who waits has nothing yet, and who is slowed goes on."""
GROWTH: Final = 2.0
"""How much larger than those of late a slice may be: estimates are not trusted far from what was seen."""

_FORGETTING: Final = 0.9
"""Weight of the past at each new observation of a slice."""
_DECODE_WEIGHT: Final = 0.2
"""Weight of a new observation of a decode step."""
_OUTLIER: Final = 4.0
"""A slice that took longer than this times what was expected counts as this: something else ran, too."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What steps cost here, as far as it was measured. Seconds and tokens throughout.

    A prefill slice of n tokens that begins at position p costs n (a + b (p + n/2)): every token passes
    through the weights once and attends to all before it. The line a + b q is fitted to the slices seen.
    """

    gap_s: float
    """The gap between two tokens of a running stream that prefill of others may cause."""
    decode_s: float = 0.0
    join_s: float = 0.0
    """What it costs to let prefilled sequences join those that decode."""
    per_token: Line = field(default_factory=Line)
    trusted: int = SMALLEST
    """Tokens of a slice that was seen of late."""

    def after_decode(self, took_s: float) -> "Pace":
        """A step's tokens were chosen, after so long."""
        return replace(self, decode_s=_blend(self.decode_s, took_s, _DECODE_WEIGHT))

    def after_join(self, took_s: float) -> "Pace":
        """A step's tokens were chosen, after so long: caches had to be moved before, for who had joined."""
        return replace(self, join_s=_blend(self.join_s, max(took_s - self.decode_s, 0.0), 0.5))

    def after_slice(self, took_s: float, tokens: int, position: int, granted: int) -> "Pace":
        """`tokens` were prefilled from `position` on, padding included, of `granted` that might have been."""
        cost = took_s
        if self.per_token.weight:
            cost = min(cost, _OUTLIER * self.expected_s(tokens, position))
        middle = position + tokens / 2
        line = self.per_token.seen(middle, cost / tokens, _FORGETTING)
        return replace(self, per_token=line, trusted=max(tokens, min(self.trusted, granted)))

    def expected_s(self, tokens: int, position: int = 0) -> float:
        """What prefilling so many tokens from `position` on should take; 0 before anything was measured."""
        return tokens * self.per_token.at(position + tokens / 2)

    def remaining_s(self, tokens: int, position: int, crowd: float | None) -> float:
        """How long it should take until so many tokens from `position` on are prefilled, with what goes on
        between the slices."""
        alone = self.expected_s(tokens, position)
        allowance = self.allowance_s(crowd, joining=False)
        return alone * (1.0 + self.decode_s / allowance) if crowd is not None and allowance > 0.0 else alone

    def allowance_s(self, crowd: float | None, joining: bool) -> float:
        """How long the next step's prefill may take. `crowd`: how many prompts wait or are computed for each
        stream that waits for a token; None: there is no such stream."""
        if crowd is None:
            return max(IDLE_S, self.gap_s)
        shared = min(WEIGHT * crowd * self.decode_s, CROWDED * self.gap_s - self.decode_s)
        allowance = max(self.gap_s - self.decode_s, SHARE * self.decode_s, shared)
        return allowance - (self.join_s if joining else 0.0)

    def slice(self, position: int, crowd: float | None, joining: bool = False) -> int:
        """Tokens that the next step may prefill from `position` on; `crowd`: as in `allowance_s`."""
        allowance = self.allowance_s(crowd, joining)
        fitting = _solve(self.per_token.at(position), self.per_token.slope, allowance)
        trusted = self.trusted * (GROWTH * GROWTH if crowd is None else GROWTH)
        return int(max(SMALLEST, min(fitting, trusted, LARGEST_SLICE)))


def _solve(start: float, slope: float, allowance: float) -> float:
    """The n for which n (start + slope n/2) is the allowance."""
    if allowance <= 0.0:
        return SMALLEST
    # The root of slope/2 n^2 + start n - allowance, in the form that holds for slope = 0, too.
    divisor = start + math.sqrt(start * start + 2 * slope * allowance)
    return 2 * allowance / divisor if divisor > 0.0 else SMALLEST


def _blend(old: float, new: float, weight: float) -> float:
    return new if old == 0.0 else old + weight * (new - old)
