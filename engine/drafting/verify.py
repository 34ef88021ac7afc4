"""What becomes of guesses: which tokens of a sequence they made, and what its caches have to forget.

Speculative decoding by exact match: each position's token is chosen as it would be without guesses, with that
position's own draw, and a guess stands if it is that token. So guesses change how fast tokens come, not which
(Leviathan et al., arXiv:2211.17192, for greedy choices; for sampled ones the draw is shared, not resampled).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, cast

import mlx.core as mx

from engine.caches import Cache

SLACK: Final = 64
"""Tokens of padding that all rows may have in common before it is cut off."""


# -- tokens --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a step made of one sequence."""

    tokens: tuple[int, ...]
    """The guesses that were right, and the token that was chosen after them: never none."""
    forget: int
    """How many of the step's last positions its caches hold in vain, padding included."""


def verify(guesses: Sequence[Sequence[int]], chosen: Sequence[Sequence[int]]) -> tuple[Verdict, ...]:
    """For each row, guesses of one step and the tokens that were chosen at its positions.

    `chosen`: [rows][1 + the longest guess]; what was chosen after a row's own guesses end means nothing.
    """
    return tuple(_verdict(row, tokens) for row, tokens in zip(guesses, chosen, strict=True))


def _verdict(guesses: Sequence[int], chosen: Sequence[int]) -> Verdict:
    right = agreement(guesses, chosen)
    return Verdict(tuple(chosen[: right + 1]), len(chosen) - 1 - right)


def agreement(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens both begin with."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(first), len(second)))


# -- caches --------------------------------------------------------------------------------------


class _Part(Protocol):
    """What mlx-lm's batch caches of keys and values have besides."""

    left_padding: mx.array

    def is_trimmable(self) -> bool: ...
    def trim(self, n: int) -> int: ...
    def prepare(self, *, lengths: list[int], right_padding: list[int]) -> None: ...
    def finalize(self) -> None: ...
    def filter(self, batch_indices: list[int]) -> None: ...


class _Window(_Part, Protocol):
    """mlx-lm's BatchRotatingKVCache: the last `max_size` tokens, and until its next update as many more as
    that was given."""

    max_size: int
    keys: mx.array
    values: mx.array


def can_forget(caches: Sequence[Cache]) -> bool:
    """Whether these caches of a batch, or of one sequence, can be rolled back; states (SSM) can't."""
    return all(_can_forget(part) for cache in caches for part in _parts(cache))


def forget(caches: Sequence[Cache], counts: Sequence[int]) -> None:
    """Roll back the last `counts[i]` tokens of each row i of a batch's caches.

    Right after a forward of n > 1 tokens per row, before rows come or go, and less than n each. What all rows
    forget costs nothing; where they differ, rows are moved to end at the same place, as mlx-lm does after a
    padded prefill: that copies the caches.
    """
    common = min(counts, default=0)
    rest = [count - common for count in counts]
    parts = [part for cache in caches for part in _parts(cache)]
    for part in parts:
        if common:
            _trim(part, common)
        if any(rest):
            # Negative lengths: how far before its present end each row ends.
            part.prepare(lengths=[-count for count in rest], right_padding=rest)
            part.finalize()
    if any(rest):
        _cut_slack(parts, len(rest))


def _parts(cache: Cache) -> Iterator[_Part]:
    """A layer may have several."""
    parts = cast("Sequence[Cache] | None", getattr(cache, "caches", None))
    if parts is None:
        yield cast(_Part, cache)
    else:
        for part in parts:
            yield from _parts(part)


def _is_window(part: _Part) -> bool:
    return hasattr(part, "max_size")


def _can_forget(part: _Part) -> bool:
    # A full window says that it can't be trimmed. It can for as long as it holds what was before the last
    # update, which is until the next one.
    return hasattr(part, "merge") and hasattr(part, "trim") and (_is_window(part) or part.is_trimmable())


def _trim(part: _Part, count: int) -> None:
    part.trim(count)
    if _is_window(part):
        # It tells by their length how many of its oldest tokens to let go, so that the forgotten ones
        # must not be there any more.
        window = cast(_Window, part)
        end = window.keys.shape[2] - count
        window.keys = window.keys[..., :end, :]
        window.values = window.values[..., :end, :]


def _cut_slack(parts: Sequence[_Part], rows: int) -> None:
    """Rows that take turns in being the longest all get padding: without this, for ever more of it."""
    whole = [part for part in parts if not _is_window(part)]
    if not whole:
        return
    padding = cast("list[int]", whole[0].left_padding.tolist())
    if min(padding) >= SLACK:
        for part in whole:
            part.filter(list(range(rows)))
