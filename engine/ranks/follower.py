"""A rank that is not the first: takes what comes, does its part of it, and sleeps in between."""

import time
from queue import Empty, SimpleQueue
from typing import Final

import msgspec

from bus.messages.engine import Budget
from engine.border import active_bytes, cached_bytes, limit_cache
from engine.gauges import Gauges, Reading
from engine.loader import LoadFailed
from engine.ranks.hop import Inlet, Interrupted, Parcel
from engine.ranks.rank import Rank
from engine.steps.plan import Plan
from engine.work import End, Work

READING_S: Final = 0.1
"""How often a busy rank looks at its gauges."""


class _Ended(Exception):
    """An End was taken."""


class Follower:
    """Runs on the thread that computes, until an End comes in; raises what the model raises."""

    def __init__(
        self, rank: Rank, inlet: Inlet, inbox: "SimpleQueue[Work]", gauges: Gauges, upstream: int
    ) -> None:
        """`upstream`: the rank that sends this one its parcels."""
        self._rank = rank
        self._inlet = inlet
        self._inbox = inbox
        self._gauges = gauges
        self._upstream = upstream
        self._decoder = msgspec.msgpack.Decoder(Plan)
        self._read_s = 0.0

    def restore(self, name: str) -> None:
        """Hold the prefixes that are on this rank's disk under that name. Raises LoadFailed: the others
        count on it, and with what is wrong removed, the next try goes without."""
        if self._rank.store.restore(name) is None:
            raise LoadFailed("this rank's kept prefixes can't be read: it starts again without them")

    def run(self) -> None:
        self._read()
        try:
            while True:
                self._turn()
        except _Ended:
            return

    def _turn(self) -> None:
        parcel = self._receive(working=self._rank.busy)
        plan = self._decoder.decode(parcel.header)
        self._rank.apply(plan, parcel.header, parcel.hidden, lambda: self._receive(working=True))
        if not self._rank.busy or time.monotonic() - self._read_s > READING_S:
            self._read()

    def _receive(self, working: bool) -> Parcel:
        while True:
            parcel = self._inlet.poll()
            if parcel is not None:
                return parcel
            self._gauges.waiting_for = f"rank {self._upstream}" if working else ""
            try:
                self._inlet.wait()
            except Interrupted:
                self._look()
            finally:
                self._gauges.waiting_for = ""

    def _look(self) -> None:
        """Only rank 0 takes work: what matters here is the end, and how much freed memory may be kept."""
        while True:
            try:
                match self._inbox.get_nowait():
                    case Budget() as budget:
                        limit_cache(budget.cache_bytes)
                    case End():
                        raise _Ended
                    case _:
                        pass
            except Empty:
                return

    def _read(self) -> None:
        self._read_s = time.monotonic()
        decoding = self._rank.decoding
        self._gauges.reading = Reading(
            steps=self._rank.steps,
            running=decoding,
            prefilling=self._rank.sequences - decoding,
            kv_bytes=self._rank.kv_bytes,
            active_bytes=active_bytes(),
            cached_bytes=cached_bytes(),
            prefix_bytes=self._rank.store.nbytes,
        )
