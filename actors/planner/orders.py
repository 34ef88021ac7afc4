"""Which nodes to try for a grid, and in which order: a handful of good guesses, no permutations."""

from collections.abc import Sequence
from typing import TypeAlias

from actors.planner.grids import Grid
from actors.planner.machines import Machine
from actors.planner.memory import Needs, runs
from actors.planner.speed import Links

Groups: TypeAlias = tuple[tuple[Machine, ...], ...]
"""The tensor ranks of each stage."""

_SEEDS = 2
"""How many ends of the best links chains are grown from, beside the fastest and the roomiest node."""


def grouped(order: Sequence[Machine], grid: Grid) -> Groups:
    """The first nodes of an order, as stages; one of them can lead, if any node of the order can."""
    taken, ranks = list(order[: grid.size]), grid.tensor
    if not any(machine.leads for machine in taken):
        taken[-1:] = [next((machine for machine in order if machine.leads), taken[-1])]
    return tuple(tuple(taken[stage * ranks : (stage + 1) * ranks]) for stage in range(grid.stages))


def led(groups: Groups) -> Groups:
    """The same nodes, with one that can lead as rank 0: it changes places with the one that was."""
    order = [machine for group in groups for machine in group]
    place = next((place for place, machine in enumerate(order) if machine.leads), 0)
    order[0], order[place] = order[place], order[0]
    return grouped(order, Grid(len(groups), len(groups[0])))


def roomiest(pool: Sequence[Machine], grid: Grid, needs: Needs, layers: Sequence[int]) -> Groups:
    """The nodes with most memory, placed so that they hold the model if any arrangement does.

    Nodes with much memory share a stage with their like, and take the stages that need most: those that
    `layers` makes large, or else the first and the last, which also hold what is not in layers.
    """
    groups = grouped(sorted(pool, key=lambda machine: _roominess(machine, needs)), grid)
    if not layers:
        return led((groups[0], *groups[2:], groups[1]) if len(groups) > 1 else groups)
    sizes = [needs.stage(first, end) for first, end in runs(layers)]
    by_need = sorted(range(len(sizes)), key=lambda stage: (-sizes[stage], stage))
    placed = dict(zip(by_need, groups, strict=True))
    return led(tuple(placed[stage] for stage in range(len(sizes))))


class Orders:
    """Orders that are worth trying for their speed; each chain is grown once."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._grown: dict[tuple[Machine, ...], list[list[Machine]]] = {}

    def quickest(self, pool: Sequence[Machine], grid: Grid, needs: Needs, linked: bool) -> list[Groups]:
        """Fast nodes, and, where paths differ (`linked`), chains of nodes that are near each other."""
        only = grid.stages == 1
        whole = needs.layers if only else 1
        able = [machine for machine in pool if needs.capacity(machine.room, at_end=only, leads=only) >= whole]
        if len(able) < grid.size:
            return []
        able.sort(key=_quality)
        orders = [able, *(self._chains(tuple(able)) if linked and self._links.known else [])]
        return [led(grouped(order, grid)) for order in orders]

    def _chains(self, able: tuple[Machine, ...]) -> list[list[Machine]]:
        if able not in self._grown:
            named = {machine.id: machine for machine in able}
            near = [named[node] for node in self._links.best(_SEEDS) if node in named]
            roomy = max(able, key=lambda machine: machine.free)
            seeds = dict.fromkeys([able[0], roomy, *near])
            self._grown[able] = [self._chain(seed, able) for seed in seeds]
        return self._grown[able]

    def _chain(self, seed: Machine, able: Sequence[Machine]) -> list[Machine]:
        """Always on to the nearest node; among equally near ones to the best."""
        left = {machine.id: machine for machine in able if machine != seed}
        chain = [seed]
        while left:
            here = chain[-1].id
            # `min` keeps the first of equals, and the best come first.
            near = min(left, key=lambda there: self._links.between(here, there).latency_s)
            chain.append(left.pop(near))
        return chain


def _roominess(machine: Machine, needs: Needs) -> tuple[int, int, float, str]:
    """Most room first: layers count, since much memory is of no use where little of it may be KV cache."""
    return -needs.capacity(machine.room, at_end=False), -machine.free, -machine.rate, machine.id


def _quality(machine: Machine) -> tuple[float, int, str]:
    return -machine.rate, -machine.free, machine.id
