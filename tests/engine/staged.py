"""An instance of several stages in one process, without sockets or threads: ranks take turns by a seed."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import cast

import mlx.core as mx
import msgspec

from engine.border import Network
from engine.gauges import Gauges
from engine.ranks.conductor import Conductor
from engine.ranks.hop import Inlet, Parcel
from engine.ranks.rank import Equipment, Rank, Way
from engine.sharding.stage import Stage
from engine.steps.plan import Plan, Result


class Wire:
    """What was sent to a rank and waits for it."""

    def __init__(self) -> None:
        self.parcels: deque[Parcel] = deque()

    def send(self, parcel: Parcel) -> None:
        if parcel.hidden is not None:
            mx.eval(parcel.hidden)
        self.parcels.append(parcel)


class Others:
    """The ranks after the first, and what they tell it: an inlet that computes while it waits."""

    def __init__(
        self,
        folder: Path,
        cuts: Sequence[int],
        equipment: Equipment,
        seed: int = 0,
        kv_bits: int | None = None,
    ) -> None:
        """`cuts`: where the stages begin, and the number of layers."""
        stages = len(cuts) - 1
        self.wires = [Wire() for _ in range(stages - 1)]
        self._results: deque[Parcel] = deque()
        self._chance = random.Random(seed)
        self._decoder = msgspec.msgpack.Decoder(Plan)
        self.ranks = [
            Rank(Stage(Network(folder), *each, kv_bits), stages, self._way(place), equipment)
            for place, each in enumerate(pairwise(cuts[1:]), 1)
        ]

    def _way(self, place: int) -> Way:
        last = place == len(self.wires)
        return Way(None if last else self.wires[place], (), self._tell if last else None)

    def _tell(self, result: Result) -> None:
        self._results.append(Parcel(msgspec.msgpack.encode(result)))

    def poll(self) -> Parcel | None:
        return self._results.popleft() if self._results else None

    def wait(self) -> None:
        while not self._results:
            assert self.work(), "a result is waited for that nobody will tell"

    def work(self) -> bool:
        """One rank does what it was sent first; False: nobody has anything to do."""
        waiting = [place for place, wire in enumerate(self.wires) if wire.parcels]
        if not waiting:
            return False
        place = self._chance.choice(waiting)
        parcels = self.wires[place].parcels
        parcel = parcels.popleft()
        plan = self._decoder.decode(parcel.header)
        self.ranks[place].apply(plan, parcel.header, parcel.hidden, parcels.popleft)
        return True

    def catch_up(self) -> None:
        while self.work():
            pass


def staged(
    folder: Path,
    stages: int,
    layers: int,
    gauges: Gauges,
    equipment: Equipment,
    seed: int = 0,
    kv_bits: int | None = None,
) -> tuple[Conductor, Others]:
    """A conductor over as many stages of a model, and its other ranks."""
    cuts = [layers * place // stages for place in range(stages + 1)]
    others = Others(folder, cuts, equipment, seed, kv_bits)
    first = Rank(Stage(Network(folder), 0, cuts[1], kv_bits), stages, Way(others.wires[0]), equipment)
    return Conductor(first, stages, cast(Inlet, others), deque(), stages - 1, gauges), others
