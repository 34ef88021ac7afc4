"""Where the loop asks for guesses: the sequence's own tokens first, then a draft model if there is one."""

from collections.abc import Iterable, Sequence
from typing import Final

from engine.drafting.lookup import SHORTEST, Lookup
from engine.drafting.model import DraftModel

SURE: Final = 6
"""Tokens that must be repeated before they count for more than what a draft model says."""

Guesses = tuple[int, ...]
"""What may follow a sequence's last token, in order."""


class Drafter:
    """Knows the tokens of every sequence that may be guessed for. Any guess may be wrong."""

    def __init__(self, model: DraftModel | None = None) -> None:
        self._model = model
        self._lookups: dict[int, Lookup] = {}

    @property
    def nbytes(self) -> int:
        """What a draft model's caches take."""
        return self._model.nbytes if self._model else 0

    def begin(self, uid: int, tokens: Iterable[int]) -> None:
        """A sequence with all its tokens so far, the prompt's and the answer's; nothing is computed yet."""
        lookup = self._lookups[uid] = Lookup(tokens)
        if self._model:
            self._model.begin(uid, lookup.tokens)

    def took(self, uid: int, tokens: Sequence[int]) -> None:
        """What followed, guessed or not. Sequences that were never begun are none of ours."""
        if uid not in self._lookups:
            return
        self._lookups[uid].extend(tokens)
        if self._model:
            self._model.took(uid, tokens)

    def propose(self, uids: Sequence[int], width: int) -> tuple[Guesses, ...]:
        """For each of these at most `width` guesses, or none."""
        if width <= 0:
            return ((),) * len(uids)
        shortest = SURE if self._model else SHORTEST
        found = {
            uid: self._lookups[uid].propose(width, shortest) if uid in self._lookups else () for uid in uids
        }
        if self._model:
            unsure = [uid for uid in uids if uid in self._lookups and not found[uid]]
            found.update(self._model.propose(unsure, width))
        return tuple(found[uid] for uid in uids)

    def forget(self, uids: Iterable[int]) -> None:
        gone = [uid for uid in uids if self._lookups.pop(uid, None) is not None]
        if gone and self._model:
            self._model.forget(gone)
