"""What becomes of guesses: which tokens of a sequence they made, and what its caches have to forget.

Speculative decoding by exact match: each position's token is chosen as it would be without guesses, with that
position's own draw, and a guess stands if it is that token. So guesses change how fast tokens come, not which
(Leviathan et al., arXiv:2211.17192, for greedy choices; for sampled ones the draw is shared, not resampled).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, cast

import mlx.core as mx

from engine.memory.caches import Cache

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


Held = mx.array | tuple[mx.array, ...]
"""Keys or values: [batch, heads, places, width], in several arrays where they are quantised."""


class _Part(Protocol):
    """What mlx-lm's batch caches of keys and values have in common, and ours of quantised ones."""

    state: tuple[Held, Held, mx.array, mx.array, *tuple[object, ...]]
    """Keys, values, tokens of each row [batch], places before each row's first token [batch], and more."""

    def is_trimmable(self) -> bool: ...
    def trim(self, n: int) -> int: ...
    def filter(self, batch_indices: list[int]) -> None: ...


class _Window(Protocol):
    """mlx-lm's BatchRotatingKVCache."""

    def _temporal_order(self) -> None: ...


def can_forget(caches: Sequence[Cache]) -> bool:
    """Whether these caches of a batch, or of one sequence, can be rolled back; states (SSM) can't."""
    return all(_can_forget(part) for cache in caches for part in _parts(cache))


def unroll(caches: Sequence[Cache]) -> None:
    """Make a batch's caches ready for several tokens per row after single ones.

    A full window takes single tokens in its oldest one's place. mlx-lm makes the mask for several before it
    puts them in order again, and the mask is right for windows in order only (rows with padding would see
    some of it).
    """
    for cache in caches:
        for part in _parts(cache):
            if _is_window(part):
                cast(_Window, part)._temporal_order()


def forget(caches: Sequence[Cache], counts: Sequence[int]) -> None:
    """Roll back the last `counts[i]` tokens of each row i of a batch's caches.

    Right after a forward of n > 1 tokens per row, before rows come or go, and less than n each. What all rows
    forget costs nothing; where they differ, rows are moved to end at the same place, as mlx-lm does after a
    padded prefill: that copies the caches, and so is worth knowing of (`Worth` sees it in what steps take).
    """
    common = min(counts, default=0)
    rest = [count - common for count in counts]
    parts = [part for cache in caches for part in _parts(cache)]
    for part in parts:
        if common:
            _trim(part, common)
    if any(rest):
        _move(parts, rest)
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
    # A full window says that it can't be trimmed. It can for as long as it holds what was before its last
    # update of several tokens, which is until the next one.
    return hasattr(part, "merge") and hasattr(part, "trim") and (_is_window(part) or part.is_trimmable())


def _trim(part: _Part, count: int) -> None:
    def cut(held: mx.array) -> mx.array:
        return held[..., :-count, :]

    part.trim(count)
    if _is_window(part):
        # mlx-lm's BatchRotatingKVCache tells by their length how many of its oldest tokens to let go, so
        # that the forgotten ones must not be there any more.
        keys, values, tokens, before, *more = part.state
        part.state = (_each(keys, cut), _each(values, cut), tokens, before, *more)


def _move(parts: Sequence[_Part], by: Sequence[int]) -> None:
    """Move each row so many places to the right, over what it forgets: mlx-lm's `finalize`, in a half to an
    eighth of its time on a CPU, because tokens are copied as a whole."""
    padding = mx.array(list(by))
    sources: dict[tuple[int, int], mx.array] = {}

    def moved(held: mx.array) -> mx.array:
        if not held.size:  # keys without values, as indexers have them
            return held
        batch, heads, places, width = held.shape
        if (heads, places) not in sources:
            within = mx.maximum(mx.arange(places) - padding[:, None], 0)
            begins = mx.arange(batch * heads).reshape(batch, heads, 1) * places
            sources[heads, places] = (within[:, None] + begins).reshape(-1)
        return mx.take(held.reshape(-1, width), sources[heads, places], axis=0).reshape(held.shape)

    for part in parts:
        keys, values, tokens, before, *more = part.state
        part.state = (_each(keys, moved), _each(values, moved), tokens - padding, before + padding, *more)


def _each(held: Held, change: Callable[[mx.array], mx.array]) -> Held:
    return tuple(change(array) for array in held) if isinstance(held, tuple) else change(held)


def _cut_slack(parts: Sequence[_Part], rows: int) -> None:
    """Rows that take turns in being the longest all get padding: without this, for ever more of it."""
    whole = [part for part in parts if not _is_window(part)]
    if not whole:
        return
    padding = cast("list[int]", whole[0].state[3].tolist())
    if min(padding) >= SLACK:
        for part in whole:
            part.filter(list(range(rows)))
