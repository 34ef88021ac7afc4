"""Guesses of whatever tokens a seed has it, right and wrong ones: they must change no answer."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from engine.drafting.drafter import Drafter, Guesses
from engine.drafting.worth import MOST
from engine.scheduling.guesser import Guess, Guesser

ROWS: Final = 6
"""More than a guesser that asks what pays would guess for."""
WRONG: Final = 21
"""A token that hardly any answer here has."""


class Eager(Guesser):
    """Guesses whenever it may, and never asks whether it pays."""

    def __init__(self, drafter: Drafter, seed: int) -> None:
        super().__init__(drafter)
        self._proposes = drafter
        self._chance = random.Random(seed)

    def guess(self, uids: Sequence[int], may: bool, left: Sequence[int]) -> Guess | None:
        if not 0 < len(uids) <= ROWS:
            return None
        if not may or self._chance.random() < 0.2:
            return Guess(tuple(uids), (), ahead=self._chance.random() < 0.3)
        proposed = self._proposes.propose(uids, self._chance.randint(1, MOST))
        guesses = tuple(self._some(row)[: most - 1] for row, most in zip(proposed, left, strict=True))
        return Guess(tuple(uids), guesses if any(guesses) else (), ahead=False)

    def _some(self, row: Guesses) -> Guesses:
        some = row[: self._chance.randint(0, MOST)]
        return tuple(token if self._chance.random() < 0.85 else WRONG for token in some)
