"""How one sequence samples: its settings, and draws that belong to its seed and position alone."""

from dataclasses import dataclass
from typing import Final

from engine.steps.decoding import Decoding

COLDEST: Final = 1e-5
"""Below this temperature the most likely token is taken: its inverse would leave float32's range."""

_MASK: Final = (1 << 64) - 1
_GOLDEN: Final = 0x9E3779B97F4A7C15
_DRAW_BITS: Final = 23
"""A draw is k / 2^23: times a float32 sum it is always less than that sum."""


def mix(number: int) -> int:
    """64 well mixed bits: SplitMix64's finaliser (Steele, Lea and Flood, 2014)."""
    number &= _MASK
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _MASK
    return number ^ (number >> 31)


def draw(seed: int, position: int) -> float:
    """A number in [0, 1) that belongs to this seed and position alone."""
    state = mix(seed + _GOLDEN)
    return (mix(state + _GOLDEN * (position + 1)) >> (64 - _DRAW_BITS)) / (1 << _DRAW_BITS)


@dataclass(slots=True)
class Row:
    """How one sequence samples, and how many tokens it has sampled."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int = 0
    drawn: int = 0

    @classmethod
    def of(cls, decoding: Decoding, seed: int, vocabulary: int, drawn: int = 0) -> "Row":
        """A row for checked settings; `seed` where the request brings none. `drawn`: tokens that the sequence
        has already, so that it goes on with the draw after theirs."""
        top_k = decoding.top_k if 0 < decoding.top_k < vocabulary else 0
        top_p = decoding.top_p if 0.0 < decoding.top_p < 1.0 else (1.0 if decoding.top_p >= 1.0 else 0.0)
        own = seed if decoding.seed is None else decoding.seed
        return cls(decoding.temperature, top_p, top_k, decoding.min_p, own & _MASK, drawn)

    @property
    def greedy(self) -> bool:
        return self.temperature < COLDEST

    def draw(self) -> float:
        self.drawn += 1
        return draw(self.seed, self.drawn)
