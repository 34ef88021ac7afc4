"""This rank's share of kept prefixes: carries out what plans say of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.memory.caches import Cache
from engine.prefixes.disk import Shelf
from engine.prefixes.segments import Segments
from engine.steps.store_orders import Fetch, Forget, Keep, Mark, Save, Split, StoreOrder

Find = Callable[[int], tuple[Sequence[Cache], int]]
"""The caches that hold a sequence, by its uid, and its row in them."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a sequence begins with."""

    length: int
    """Tokens."""
    caches: list[Cache]


class Store:
    """Kept prefixes, and sequences that are about to begin with one."""

    def __init__(self, fresh: Callable[[], list[Cache]], shelf: Shelf | None = None) -> None:
        """`shelf`: where they are kept across restarts, if they are."""
        self._segments = Segments(fresh)
        self._shelf = shelf
        self._fetched: dict[int, Fetched] = {}

    @property
    def nbytes(self) -> int:
        return self._segments.nbytes

    @property
    def nodes(self) -> tuple[int, ...]:
        """Of which something is kept; the same at every rank."""
        return tuple(self._segments.shares)

    def carry_out(self, order: StoreOrder, find: Find) -> None:
        match order:
            case Keep(uid=uid):
                self._segments.keep(order, *find(uid))
            case Mark(uid=uid):
                self._segments.mark(order, *find(uid))
            case Split():
                self._segments.split(order)
            case Forget():
                self._segments.forget(order)
            case Fetch(uid=uid, path=path):
                length = sum(count for _, count in path)
                self._fetched[uid] = Fetched(length, self._segments.fetch(path))
            case Save(name=name, record=record):
                if self._shelf is not None:
                    self._shelf.save(self._segments, name, record)

    def restore(self, name: str) -> bytes | None:
        """Take up what was saved under this name; returns the record that was saved with it, or None where
        nothing can be taken up."""
        return self._shelf.restore(self._segments, name) if self._shelf is not None else None

    def take(self, uid: int) -> Fetched | None:
        """What was fetched for a sequence that begins; None: nothing."""
        return self._fetched.pop(uid, None)

    def leave(self, uid: int) -> None:
        """It will not begin."""
        self._fetched.pop(uid, None)
