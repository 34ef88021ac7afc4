"""Whether guessing pays, and how many tokens to guess: from what steps took and how many guesses were right.

A step that computes n guesses for each of its rows takes longer than a plain one, and makes as many tokens
more as guesses are right. With r_j the share of guesses at position j that are right where all before them
are, a row makes 1 + r_1 + r_1 r_2 + ... + r_1 ... r_n tokens a step (Leviathan et al., arXiv:2211.17192, who
take all r_j to be equal). The n with the most tokens per second is taken. Where none beats plain steps,
single steps try again: text may have become repetitive.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from engine.regression import Line

MOST: Final = 8
"""Guesses for each row."""
MOST_ROWS: Final = 4
"""With more of them a step has enough to compute without guesses."""
MARGIN: Final = 1.03
"""By how much more tokens per second guessing has to promise."""
SPENDABLE: Final = 0.01
"""The share of all time that may be lost on steps that only try."""

_TRIED: Final = (4, 2, 8)
"""Guesses of steps that try, in turn: different ones show how the cost grows with their number."""
_PLAIN_FIRST: Final = 3
"""Plain steps of as many rows that are seen before any guess: what came before them may still be going on."""
_CREDIT: Final = 8.0
"""Plain steps' worth of time that may be lost on trying at the beginning, and saved up for it later."""
_SOONEST: Final = 8
_LATEST: Final = 256
"""Steps until it is tried again: twice as many each time that it loses, and at once where it gains."""
_CHECKED: Final = 64
"""Steps with guesses until the next plain one, which shows what those cost by now."""
_WEIGHT: Final = 0.2
"""Of a new time."""
_FORGETTING: Final = 0.95
"""Weight of the past at each new observation."""
_OUTLIER: Final = 4.0
"""A step that took longer than this times what was expected counts as this: something else ran, too."""
_TRUST: Final = 4.0
"""A sequence's own rate begins as that of all, as if so many of its guesses had come to it."""


_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True, slots=True)
class Rates:
    """How often guesses are right, by position, lately: hits of trials, both fading."""

    hits: tuple[float, ...] = (0.0,) * MOST
    trials: tuple[float, ...] = (0.0,) * MOST

    def after(self, right: int, offered: int, width: int) -> "Rates":
        """After a row of a step with `width` guesses had `offered` of them, and `right` were. A row that has
        none while others do costs as much as one whose first guess is wrong."""
        seen = min(right + 1, max(offered, 1), width)
        hits = [
            old * _FORGETTING + (place < right) if place < seen else old
            for place, old in enumerate(self.hits)
        ]
        trials = [old * _FORGETTING + 1.0 if place < seen else old for place, old in enumerate(self.trials)]
        return Rates(tuple(hits), tuple(trials))

    def shares(self, expected: Sequence[float] | None = None) -> tuple[float, ...]:
        """By position; `expected`: what is expected of one of which little is known."""
        found: list[float] = []
        for place, (hits, trials) in enumerate(zip(self.hits, self.trials, strict=True)):
            if expected is not None:
                prior, trust = expected[place], _TRUST
            else:
                # Nothing is known at first: half. Later positions are mostly like those before them.
                prior, trust = (found[-1] if found else 0.5), 1.0
            found.append((hits + trust * prior) / (trials + trust))
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Trial:
    """When guesses are next tried for a sequence that they do not pay for."""

    in_steps: int = 0
    interval: int = _SOONEST

    def waited(self) -> "Trial":
        return replace(self, in_steps=max(self.in_steps - 1, 0))

    def made(self, gained: bool) -> "Trial":
        if gained:
            return Trial()
        return Trial(self.interval, min(2 * self.interval, _LATEST))


_UNKNOWN: Final = Rates().shares()
"""Before any guess."""


@dataclass(frozen=True, slots=True)
class _Sequence:
    shares: tuple[float, ...]
    """What its rates come to, kept because they change only where there were guesses."""
    rates: Rates = Rates()
    trial: Trial = Trial()


@dataclass(frozen=True, slots=True)
class Worth:
    """What is known of an engine's steps and guesses. Seconds throughout."""

    plain_s: tuple[float, ...] = (0.0,) * MOST_ROWS
    """A plain step of 1, 2, ... rows."""
    plain_seen: tuple[int, ...] = (0,) * MOST_ROWS
    extra: Line = field(default_factory=Line)
    """What a step takes longer, as a share of a plain one, by the guesses of all its rows."""
    drafting_s: float = 0.0
    """What it takes to make a step's guesses."""
    rates: Rates = Rates()
    shares: tuple[float, ...] = _UNKNOWN
    """What these come to: what is expected of new sequences."""
    sequences: Mapping[int, _Sequence] = field(default_factory=dict)
    credit: float = _CREDIT
    """Plain steps' worth of time that trying may lose."""
    since_plain: int = 0
    """Steps with guesses since the last one without."""
    tried: int = 0

    # -- what to do ------------------------------------------------------------------------------

    def width(self, uids: Sequence[int]) -> int:
        """How many tokens to guess for each of these sequences in their next step; 0: make a plain one."""
        rows = len(uids)
        if not 0 < rows <= MOST_ROWS or self.plain_seen[rows - 1] < _PLAIN_FIRST:
            return 0
        best = self._best(uids)
        if best:
            return 0 if self.since_plain >= _CHECKED else best
        due = any(self._of(uid).trial.in_steps == 0 for uid in uids)
        tried = _TRIED[self.tried % len(_TRIED)]
        return tried if due and min(self._loss(rows, tried), _CREDIT) <= self.credit else 0

    def _best(self, uids: Sequence[int]) -> int:
        """The number of guesses that promises most; 0 where none promises enough, or too little is known."""
        if self.tried < len(_TRIED):
            return 0
        shares = [self._of(uid).shares for uid in uids]
        best, most = 0, len(uids) * MARGIN
        made, right = float(len(uids)), [1.0] * len(uids)
        for width in range(1, MOST + 1):
            right = [each * row[width - 1] for each, row in zip(right, shares, strict=True)]
            made += sum(right)
            speed = made / self._cost(len(uids), width)
            if speed > most:
                best, most = width, speed
        return best

    def _of(self, uid: int) -> _Sequence:
        return self.sequences.get(uid) or _Sequence(self.shares)

    def _cost(self, rows: int, width: int) -> float:
        """Of a step with guesses, in plain steps."""
        return 1.0 + self.extra.at(rows * width) + self.drafting_s / self.plain_s[rows - 1]

    def _loss(self, rows: int, width: int) -> float:
        """In plain steps, if no guess is right."""
        return self._cost(rows, width) - 1.0 if self.extra.weight else 1.0

    # -- what is learned -------------------------------------------------------------------------

    def after_step(
        self,
        uids: Sequence[int],
        width: int,
        took_s: float,
        offered: Sequence[int],
        accepted: Sequence[int],
        drafting_s: float,
    ) -> "Worth":
        """After a step of these sequences that did nothing but decode.

        `width`: guesses for each row, padding included, 0 where there were none; `offered`, `accepted`: of
        them for each row, how many it had and how many were right; `took_s`: the step, without `drafting_s`,
        which asking for the guesses took.
        """
        rows = len(uids)
        if not 0 < rows <= MOST_ROWS or took_s <= 0.0:
            return self
        if width == 0:
            return self._after_plain(uids, took_s)
        if not self.plain_s[rows - 1]:
            return self
        return self._after_guesses(uids, width, took_s, offered, accepted, drafting_s)

    def forget(self, uids: Iterable[int]) -> "Worth":
        gone = set(uids)
        return replace(self, sequences={uid: each for uid, each in self.sequences.items() if uid not in gone})

    def _after_plain(self, uids: Sequence[int], took_s: float) -> "Worth":
        place = len(uids) - 1
        known, seen = self.plain_s[place], self.plain_seen[place]
        # The first one may have had something to compile, or to move.
        plain_s = _blended(known, took_s) if seen > 1 else took_s
        waited = {uid: replace(self._of(uid), trial=self._of(uid).trial.waited()) for uid in uids}
        return replace(
            self,
            plain_s=_with(self.plain_s, place, plain_s),
            plain_seen=_with(self.plain_seen, place, seen + 1),
            sequences={**self.sequences, **waited},
            credit=min(self.credit + SPENDABLE, _CREDIT),
            since_plain=0,
        )

    def _after_guesses(
        self,
        uids: Sequence[int],
        width: int,
        took_s: float,
        offered: Sequence[int],
        accepted: Sequence[int],
        drafting_s: float,
    ) -> "Worth":
        plain_s = self.plain_s[len(uids) - 1]
        guesses = len(uids) * width
        extra = took_s / plain_s - 1.0
        if self.extra.weight:
            extra = min(extra, _OUTLIER * (1.0 + self.extra.at(guesses)) - 1.0)
        cost = (took_s + drafting_s) / plain_s
        rates = self.rates
        for had, right in zip(offered, accepted, strict=True):
            rates = rates.after(right, had, width)
        shares, sequences = rates.shares(), dict(self.sequences)
        for uid, had, right in zip(uids, offered, accepted, strict=True):
            known = self._of(uid)
            own = known.rates.after(right, had, width)
            sequences[uid] = _Sequence(own.shares(shares), own, known.trial.made(1 + right > cost))
        lost = max(cost - (1.0 + sum(accepted) / len(uids)), 0.0)
        # What is lost where guessing pays on the whole is no trial.
        trial = self._best(uids) == 0
        return replace(
            self,
            extra=self.extra.seen(guesses, max(extra, 0.0), _FORGETTING),
            drafting_s=_blended(self.drafting_s, drafting_s),
            rates=rates,
            shares=shares,
            sequences=sequences,
            credit=self.credit - lost if trial else self.credit,
            since_plain=self.since_plain + 1,
            tried=self.tried + trial,
        )


def _blended(known: float, new: float) -> float:
    return known + _WEIGHT * (min(new, _OUTLIER * known) - known) if known else new


def _with(values: tuple[_Number, ...], place: int, value: _Number) -> tuple[_Number, ...]:
    return tuple(value if each == place else old for each, old in enumerate(values))
