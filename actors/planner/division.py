"""How many layers each stage takes: in proportion to its speed, as far as its memory goes."""

from collections.abc import Sequence
from heapq import heapify, heappop, heapreplace
from typing import Final

NEARLY_EQUAL: Final = 1.4
"""Machines whose speeds differ by less may well be equal: each was measured once, perhaps while busy."""


def evened(speeds: Sequence[float]) -> list[float]:
    """The speeds, taken for equal where they nearly are.

    >>> evened([10.0, 12.5]), evened([10.0, 20.0])
    ([10.0, 10.0], [10.0, 20.0])
    """
    slowest = min(speeds)
    return [slowest] * len(speeds) if max(speeds) < NEARLY_EQUAL * slowest else list(speeds)


def divide(layers: int, speeds: Sequence[float], capacities: Sequence[int]) -> tuple[int, ...] | None:
    """Layers of each stage, at least one each and `layers` in all; None: they don't fit.

    The slowest stage is as fast as can be: each further layer goes where the stage that takes it is done
    soonest. Among equals the earlier stage takes it.

    >>> divide(12, [2.0, 1.0], [20, 20])
    (8, 4)
    >>> divide(12, [2.0, 1.0], [6, 20])
    (6, 6)
    """
    if len(speeds) > layers or min(capacities) < 1 or sum(capacities) < layers:
        return None
    taken = [1] * len(speeds)
    queue = [(2 / speed, stage) for stage, speed in enumerate(speeds) if capacities[stage] > 1]
    heapify(queue)
    for _ in range(layers - len(taken)):
        stage = queue[0][1]
        taken[stage] += 1
        if taken[stage] < capacities[stage]:
            heapreplace(queue, ((taken[stage] + 1) / speeds[stage], stage))
        else:
            heappop(queue)
    return tuple(taken)
