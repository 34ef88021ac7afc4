"""The few statistics that the tables show: quantiles, gaps between tokens, ratios of paired rounds."""

from collections.abc import Sequence
from itertools import pairwise
from math import nan


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of `values` lie at or below, linear between neighbours; nan of none.

    Values that are nan, because they could not be measured, do not count.
    """
    ordered = sorted(value for value in values if value == value)
    if not ordered:
        return nan
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def median(values: Sequence[float]) -> float:
    return quantile(values, 0.5)


def gaps(times: Sequence[float]) -> list[float]:
    """From each moment to the next."""
    return [after - before for before, after in pairwise(times)]


def gaps_within(times: Sequence[float], start: float, end: float) -> list[float]:
    """The gaps of which any part lies in the time from `start` to `end`, whole."""
    return [after - before for before, after in pairwise(times) if after > start and before < end]


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Round by round; rounds that only one side has do not count, nor what cannot be divided by or is nan."""
    return [our / their for our, their in zip(ours, theirs, strict=False) if their > 0 and our == our]
