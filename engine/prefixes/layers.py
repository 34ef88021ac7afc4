"""What can be kept of a layer's cache: tokens where it can be cut at any of them, else the state it is in."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias, cast

import mlx.core as mx
from mlx_lm.models.cache import BatchKVCache, KVCache, QuantizedKVCache, RotatingKVCache

from engine.memory.caches import Cache
from engine.memory.quantised import BatchQuantisedCache, QuantisedCache

TOKEN_AXIS: Final = 2

_Held: TypeAlias = "tuple[_Part | None, _Part | None, int, *tuple[int, ...]]"
"""Keys, values, and how many tokens they are of; then what a quantised cache was made with."""
_HeldOfBatch: TypeAlias = "tuple[_Part | None, _Part | None, mx.array, mx.array, int, *tuple[int, ...]]"
"""Keys, values, tokens of each row, its padding before them, and where all rows end; then as above."""
_Part: TypeAlias = mx.array | Sequence[mx.array]
"""An array; quantised, numbers, scales and biases."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some tokens in a row of a cache of one sequence that can be cut."""

    arrays: tuple[mx.array, ...] = ()
    """Of the keys, then as many of the values: each [1, heads, tokens, width]. Empty: it has none."""
    made_with: tuple[int, ...] = ()
    """Group size and bits of a quantised cache."""

    def __len__(self) -> int:
        """Tokens; 0 where its layer makes nothing of them."""
        return self.arrays[0].shape[TOKEN_AXIS] if self.arrays else 0

    def part(self, begin: int, end: int) -> "Piece":
        """A copy, not computed yet: a view would hold the memory of the whole."""
        return Piece(tuple(mx.contiguous(array[:, :, begin:end]) for array in self.arrays), self.made_with)

    def first(self, count: int) -> "Piece":
        """A view, for what is copied in its turn."""
        return Piece(tuple(array[:, :, :count] for array in self.arrays), self.made_with)


class _Stateful(Protocol):
    """Any cache of mlx-lm's."""

    state: object


def leaves(caches: Iterable[Cache]) -> Iterator[Cache]:
    """The caches themselves, where one is made of several."""
    for cache in caches:
        parts: Iterable[Cache] | None = getattr(cache, "caches", None)
        if parts is None:
            yield cache
        else:
            yield from leaves(parts)


def can_cut(leaf: Cache) -> bool:
    """Whether it holds its tokens one by one, and all of them."""
    # Not what is derived from these: who knows what it holds besides.
    return type(leaf) in (KVCache, QuantizedKVCache, QuantisedCache, BatchKVCache, BatchQuantisedCache)


def is_sliceable(caches: Iterable[Cache]) -> bool:
    """Whether a sequence can begin with any part of what such caches hold."""
    return all(can_cut(leaf) for leaf in leaves(caches))


# -- tokens --------------------------------------------------------------------------------------


def cut_out(leaf: Cache, begin: int, end: int, row: int | None = None) -> Piece:
    """A copy of its tokens `begin` to `end`, not computed yet; of a batch, those of a row of it.

    Nothing else is copied. Raises ValueError where it has fewer tokens.
    """
    if row is None:
        keys, values, length, *made_with = cast(_Held, leaf.state)
        start, row = 0, 0
    else:
        keys, values, _, padding, stop, *made_with = cast(_HeldOfBatch, leaf.state)
        start = cast(int, padding[row].item())
        length = stop - start
    if keys is None or values is None:
        return Piece()
    if length < end:
        raise ValueError(f"a cache of {length} tokens has none up to {end}")
    own = tuple(array[row : row + 1] for array in (*_arrays(keys), *_arrays(values)))
    return Piece(own, tuple(made_with)).part(start + begin, start + end)


def fill(leaf: Cache, pieces: Sequence[Piece]) -> None:
    """Let an empty cache hold these, one after another. Nothing that is done to it later changes them."""
    if not all(pieces):
        return
    columns = zip(*(piece.arrays for piece in pieces), strict=True)
    arrays = [mx.concatenate(list(column), axis=TOKEN_AXIS) for column in columns]
    half = len(arrays) // 2
    keys, values = arrays[:half], arrays[half:]
    tokens = sum(len(piece) for piece in pieces)
    if half == 1:
        held: _Held = (keys[0], values[0], tokens, *pieces[0].made_with)
    else:
        held = (tuple(keys), tuple(values), tokens, *pieces[0].made_with)
    cast(_Stateful, leaf).state = held


def _arrays(part: _Part) -> Sequence[mx.array]:
    return (part,) if isinstance(part, mx.array) else part


# -- states --------------------------------------------------------------------------------------


def state_of(leaf: Cache, row: int | None = None) -> object:
    """A copy of its state, or that of a row of a batch, not computed yet: lists, numbers and arrays."""
    if row is not None:
        leaf = leaf.extract(row)
    if isinstance(leaf, RotatingKVCache) and not leaf.empty():
        # After a slice it holds the slice and the window before it; a batch takes no more than the window.
        leaf = cast(Cache, leaf.merge([leaf]).extract(0))
    return _copied(leaf.state)


def set_state(leaf: Cache, state: object) -> None:
    """Let a cache stand where `state` was taken. Nothing that is done to it later changes `state`."""
    cast(_Stateful, leaf).state = copy.deepcopy(state)


def arrays_in(state: object) -> Iterator[mx.array]:
    match state:
        case mx.array():
            yield state
        case list():
            for part in state:
                yield from arrays_in(part)
        case _:
            pass


def _copied(state: object) -> object:
    match state:
        case mx.array():
            return mx.contiguous(state)
        case list() | tuple():
            return [_copied(part) for part in state]
        case _:
            return state
