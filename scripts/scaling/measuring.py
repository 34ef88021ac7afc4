"""One cluster of a size, from its start to the loss of its coordinator, and the figures that it gives."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from scripts.scaling.fleet import Fleet, Held, fleet
from scripts.scaling.light_node import MODELS, node_id
from scripts.scaling.timeline import has_only, knows_all
from scripts.scaling.words import Measured

PROCESSES: Final = 6
"""For all nodes but the first and the last, at most."""

MARKS: Final = 20
"""Facts whose way is timed."""

FIRST: Final = 1
"""The longest-standing node, and so the coordinator: in a process of its own, like the last one."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured with one number of nodes; times in seconds."""

    nodes: int
    all_known_s: float
    """All but the first node start at once and are told of that one: until all know all, with all facts."""
    agreed_s: float
    """From then too: until all see one coordinator, the same."""
    joining_cpu_s: float
    """CPU time of each node until then."""
    bytes_in: float
    """Per node and second, idle; so are the next three."""
    bytes_out: float
    messages_in: float
    messages_out: float
    cpu: float
    """Share of a core that each node takes, idle."""
    fact_s: float
    """A fact set on one node: to half of the others."""
    fact_at_most_s: float
    """To the last of them, at worst."""
    missed_s: float
    """A node is killed: until it is no member for any other, and its facts are gone."""
    rejoined_s: float
    """It comes back: until all know all again."""
    replaced_s: float
    """The coordinator is killed: until all see another one that acts."""

    @property
    def bytes(self) -> float:
        """Both ways."""
        return self.bytes_in + self.bytes_out


async def measure(nodes: int, idle_s: float, folder: Path, seed: int = 1) -> Figures:
    """Start so many nodes, at least 3, and do everything once. Raises Overdue."""
    async with fleet(folder) as them:
        run = _Run(them, nodes)
        all_known_s, agreed_s, cpu_s = await run.join()
        before = await them.measure()
        await asyncio.sleep(idle_s)
        rest = _rest(before, await them.measure())
        facts = await run.spread(random.Random(seed))
        missed_s = await run.lose_the_last()
        rejoined_s = await run.bring_it_back()
        replaced_s = await run.lose_the_first()
        return Figures(
            nodes,
            all_known_s,
            agreed_s,
            cpu_s,
            *rest,
            median(median(each) for each in facts),
            max(max(each) for each in facts),
            missed_s,
            rejoined_s,
            replaced_s,
        )


class _Run:
    """One cluster, step by step."""

    def __init__(self, them: Fleet, nodes: int) -> None:
        self._them, self._last = them, nodes
        self._all = range(FIRST, nodes + 1)
        self._first_address = ""
        self._knows_all = knows_all(nodes, nodes * MODELS)

    async def join(self) -> tuple[float, float, float]:
        """Until all know all, until all agree on a coordinator, and CPU seconds of each node for both."""
        them, last = self._them, self._last
        inner = range(FIRST + 1, last)
        parts = [inner[at::PROCESSES] for at in range(min(PROCESSES, len(inner)))]
        first, final, *others = await them.start(2 + len(parts))
        self._first_address = (await them.open(first, [FIRST]))[FIRST]
        await them.until([FIRST], has_only(node_id(FIRST)), "the first node to take office")
        before = await them.measure()
        began = asyncio.get_running_loop().time()
        opening: list[tuple[Held, Sequence[int]]] = [*zip(others, parts, strict=True), (final, [last])]
        await asyncio.gather(*(them.open(held, part, [self._first_address]) for held, part in opening))
        known_at = await them.until(self._all, self._knows_all, "all to know all")
        agreed_at = await them.agree(self._all)
        cpu_s = _cpu_s(await them.measure()) - _cpu_s(before)
        return known_at - began, agreed_at - began, cpu_s / len(self._all)

    async def spread(self, source: random.Random) -> list[list[float]]:
        """How long facts take to each other node."""
        count = len(self._all)
        return [await self._them.spread(source.choice(self._all), mark, count) for mark in range(MARKS)]

    async def lose_the_last(self) -> float:
        """Until it is missed by all."""
        killed_at = await self._them.kill(self._last)
        left = self._last - 1
        gone = knows_all(left, left * MODELS)
        return await self._them.until(self._all[:-1], gone, "all to miss a node") - killed_at

    async def bring_it_back(self) -> float:
        """Until all know all again."""
        (held,) = await self._them.start(1)
        began = asyncio.get_running_loop().time()
        await self._them.open(held, [self._last], [self._first_address])
        return await self._them.until(self._all, self._knows_all, "all to know one that came") - began

    async def lose_the_first(self) -> float:
        """Until all see that the next one is in office."""
        killed_at = await self._them.kill(FIRST)
        return await self._them.agree(self._all[1:], without=node_id(FIRST)) - killed_at


def _cpu_s(measured: Sequence[Measured]) -> float:
    return sum(each.cpu_s for each in measured)


def _rest(before: Sequence[Measured], after: Sequence[Measured]) -> tuple[float, float, float, float, float]:
    """Per node and second: bytes in and out, messages in and out, and CPU seconds."""
    sums = [0.0] * 5
    nodes = sum(len(each.passed) for each in after)
    for early, late in zip(before, after, strict=True):
        took_s = late.at - early.at
        sums[4] += (late.cpu_s - early.cpu_s) / took_s
        for number, passed in late.passed.items():
            then = early.passed[number]
            sums[0] += (passed.bytes_in - then.bytes_in) / took_s
            sums[1] += (passed.bytes_out - then.bytes_out) / took_s
            sums[2] += (passed.messages_in - then.messages_in) / took_s
            sums[3] += (passed.messages_out - then.messages_out) / took_s
    bytes_in, bytes_out, messages_in, messages_out, cpu = (each / nodes for each in sums)
    return bytes_in, bytes_out, messages_in, messages_out, cpu
