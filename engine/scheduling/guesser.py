"""Rank 0's side of guessing tokens ahead: for whom, how many, and whether it pays."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from engine.drafting.drafter import Drafter
from engine.drafting.worth import MOST_ROWS, Worth


@dataclass(frozen=True, slots=True)
class Guess:
    """What a lane's step is begun with."""

    uids: tuple[int, ...]
    guesses: tuple[tuple[int, ...], ...]
    """Of each; empty: the step is a plain one."""
    ahead: bool = True
    """The step after it may begin at once: it will be a plain one."""
    drafting_s: float = 0.0

    @property
    def width(self) -> int:
        """Of the step, beside its rows' last tokens."""
        return max((len(guesses) for guesses in self.guesses), default=0)


class Guesser:
    """Sequences with rules of their own are not begun here, and never guessed for."""

    def __init__(self, drafter: Drafter | None) -> None:
        """None: nothing is guessed."""
        self.drafted = 0
        """Tokens, since the start."""
        self.accepted = 0
        self._drafter = drafter
        self._worth = Worth()

    @property
    def nbytes(self) -> int:
        """What a draft model's caches take."""
        return self._drafter.nbytes if self._drafter is not None else 0

    def begin(self, uid: int, tokens: Sequence[int]) -> None:
        """A sequence decodes from now on; `tokens` are all of its own so far."""
        if self._drafter is not None:
            self._drafter.begin(uid, tokens)

    def took(self, uid: int, token: int) -> None:
        if self._drafter is not None:
            self._drafter.took(uid, (token,))

    def forget(self, uids: Sequence[int]) -> None:
        if self._drafter is not None and uids:
            self._drafter.forget(uids)
            self._worth = self._worth.forget(uids)

    def guess(self, uids: Sequence[int], may: bool, left: Sequence[int]) -> Guess | None:
        """For a step that does nothing but decode these; None: there is nothing to learn from it. `may`: it
        was not begun before the tokens of the last one were there. `left`: tokens that each can still get."""
        if self._drafter is None or not 0 < len(uids) <= MOST_ROWS:
            return None
        width = self._worth.width(uids)
        if not (width and may):
            return Guess(tuple(uids), (), ahead=not width)
        began = time.monotonic()
        proposed = self._drafter.propose(uids, width)
        guesses = tuple(row[: most - 1] for row, most in zip(proposed, left, strict=True))
        took = time.monotonic() - began
        return Guess(tuple(uids), guesses if any(guesses) else (), False, took)

    def learn(self, guess: Guess, chosen: Sequence[int], took_s: float) -> None:
        """After that step; `chosen` has each sequence as often as it got a token."""
        made = Counter(chosen)
        offered = [len(guesses) for guesses in guess.guesses] or [0] * len(guess.uids)
        accepted = [max(made[uid] - 1, 0) for uid in guess.uids]
        self.drafted += sum(offered)
        self.accepted += sum(accepted)
        self._worth = self._worth.after_step(
            guess.uids, guess.width, took_s, offered, accepted, guess.drafting_s
        )
