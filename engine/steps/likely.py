"""How likely a chosen token was, and its rivals."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Likely:
    """A chosen token's log-probability, and the most likely tokens with theirs."""

    chosen: float
    top: tuple[tuple[int, float], ...] = ()
