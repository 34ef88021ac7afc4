"""Rank 0's hand on memory for KV cache: who may begin, who gives way, and what is kept for later prompts."""

import secrets
from collections.abc import Sequence
from typing import Final

from bus.messages.engine import Budget
from engine.memory.admission import (
    Admit,
    Holding,
    Lanes,
    Place,
    Verdict,
    admits,
    prefix_room,
    pressed,
    room_ever,
)
from engine.memory.footprint import Footprint
from engine.prefixes.index import Index
from engine.steps.stepper import Kept, Stepper
from engine.steps.store_orders import Save

WORTH_KEEPING: Final = 16
"""Tokens. Shorter beginnings are computed again sooner than they are moved about."""

UNSTATED_BYTES: Final = 1 << 30
"""For kept prefixes, where no budget says how much there is."""


class Keeper:
    """Tells the stepper what to keep and to let go. Without a budget, whatever comes may begin."""

    def __init__(
        self,
        stepper: Stepper,
        footprint: Footprint,
        index: Index | None,
        budget: Budget | None = None,
        saves: bool = False,
    ) -> None:
        """`index`: what is kept already; None: nothing is, and nothing will be. `saves`: there is a disk for
        it."""
        self.budget = budget
        self.beside_bytes = 0
        """What a draft model's caches take of it."""
        self._stepper = stepper
        self._footprint = footprint
        self._index = index
        self._saves = saves
        self._unsaved = False
        self._running: Lanes = ()
        """And what rests half computed, as it was told last."""

    # -- what is kept ----------------------------------------------------------------------------

    @property
    def nbytes(self) -> int:
        """On this rank."""
        return self._index.nbytes if self._index is not None else 0

    @property
    def trails(self) -> tuple[int, ...]:
        """How the conversations begin that are kept, latest used last."""
        return self._index.trails if self._index is not None else ()

    @property
    def keeps(self) -> bool:
        """What is computed now will be there for those who come after it."""
        return self._index is not None and not (self.budget is not None and self.budget.short)

    @property
    def cuts(self) -> bool:
        """Caches can be cut at any token, so that nothing but the end of a prompt has to be kept."""
        return self._index is None or self._index.sliceable

    def known(self, tokens: Sequence[int]) -> int:
        """How many tokens of a prompt need not be computed."""
        length = self._index.peek(tokens, len(tokens) - 1) if self._index is not None else 0
        return length if length >= WORTH_KEEPING else 0

    def shared(self, tokens: Sequence[int], others: Sequence[int], marks: Sequence[int]) -> int:
        """How many tokens of a prompt need not be computed once another one is, with these marks."""
        common = min(agree(tokens, others), len(tokens) - 1)
        if self.cuts:
            return common
        return max((place for place in (*marks, len(others) - 1) if place <= common), default=0)

    def fetch(self, tokens: Sequence[int]) -> Kept | None:
        """Have a sequence begin with what is kept of its prompt; None: nothing is."""
        if self._index is None or not self.known(tokens):
            return None
        return self._stepper.fetch(self._index.match(tokens, len(tokens) - 1).path)

    def keep(
        self, uid: int, tokens: Sequence[int], trail: tuple[int, ...], *, ends: bool, runs: bool = False
    ) -> None:
        """Have kept what the caches of a sequence hold of these tokens, if there is room for both at once;
        `ends`: they hold no more. `runs`: the sequence goes on."""
        if self._index is None or not self.keeps or len(tokens) < WORTH_KEEPING:
            return
        if not self._make_room(self._index, tokens, runs):
            return
        orders = self._index.keep(tokens, uid, ends, trail)
        self._unsaved = self._unsaved or bool(orders)
        self._stepper.store(orders)

    def _make_room(self, index: Index, tokens: Sequence[int], runs: bool) -> bool:
        """Before anything is copied: what was used least recently goes, if that is enough."""
        if self.budget is None:
            return True
        room = prefix_room(self._footprint, self.budget, self._running, not runs, self.beside_bytes)
        if index.cost(len(tokens)) > room:
            return False
        index.match(tokens, len(tokens))  # what it begins with goes last
        self._shrink(max(room - index.cost(len(tokens) - index.known(tokens)), 0))
        return True

    def save(self) -> bool:
        """Have written to disk what is not there yet; whether there is something to write."""
        if not (self._saves and self._unsaved and self._index is not None):
            return False
        self._unsaved = False
        self._stepper.store([Save(secrets.token_hex(8), self._index.record())])
        return True

    def let_go(self) -> None:
        """Keep nothing that can be computed again."""
        self._shrink(0)

    def _shrink(self, to_bytes: int) -> None:
        if self._index is not None and self._index.nbytes > to_bytes:
            self._stepper.store(self._index.shrink(to_bytes))

    # -- how much there is -----------------------------------------------------------------------

    @property
    def limit_bytes(self) -> int:
        """Of KV cache, on this rank; 0: not bounded."""
        return self.budget.kv_bytes if self.budget is not None else 0

    @property
    def room(self) -> int | None:
        """The longest prompt and answer together that memory has room for; None: as long as one likes."""
        return room_ever(self._footprint, self.budget) if self.budget is not None else None

    def admits(self, lanes: Lanes, lane: int, candidate: Holding, tokens: Sequence[int]) -> Verdict:
        """Whether a sequence may begin; what is kept makes room for it, but what it begins with goes last."""
        if self.budget is None:
            return Admit()
        held = self.nbytes, self.beside_bytes
        verdict = admits(self._footprint, self.budget, lanes, lane, candidate, *held)
        if isinstance(verdict, Admit) and verdict.prefix_bytes is not None and self._index is not None:
            self._index.match(tokens, len(tokens) - 1)
            self._shrink(verdict.prefix_bytes)
        return verdict

    def computes(self, lanes: Lanes) -> None:
        """These are computed from now on, or rest half computed."""
        self._running = lanes

    def relieve(self, lanes: Lanes) -> tuple[Place, ...]:
        """Before a step: let go what has to go, and say who has to give way."""
        self.computes(lanes)
        if self.budget is None:
            self._shrink(UNSTATED_BYTES)
            return ()
        relief = pressed(self._footprint, self.budget, lanes, self.nbytes, self.beside_bytes)
        if relief.prefix_bytes is not None:
            self._shrink(relief.prefix_bytes)
        return relief.preempt


def agree(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens both begin with."""
    low, high = 0, min(len(first), len(second))
    while low < high:  # slices are compared much faster than tokens one by one
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
