"""What sequences cost in bytes of KV cache on this rank, reckoned before they are computed.

All is counted at the most that it comes to in mlx-lm's caches, which grow and slide like this: an array that
is full is enlarged by whole steps from where it ends, wherever that is, so that up to a step less one token
of it stands empty; in a batch every row is as long as the longest; a layer that slides holds its window, and
after a slice of a prompt that slice besides, until the next token.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Self, cast

import mlx.core as mx

from engine.memory.caches import Cache

STEP: Final = 256
"""Tokens by which mlx-lm's caches grow."""
ENDLESS: Final = 1 << 40
"""Tokens that fit where nothing grows with them."""
LARGEST_SLICE: Final = 2048
"""Tokens of prompts that one step may compute. More gains nothing, and its activations take memory."""
COPIED_LAYERS: Final = 3
"""How many layers' arrays are there twice while all are copied. Measured where a step joins, enlarges and
attends: 1.1 of plain ones, and 3 of quantised ones, whose attention copies what it reads."""


@dataclass(frozen=True, slots=True)
class Layer:
    """What one layer, or one of its caches where it has several, keeps of a sequence."""

    token_bytes: int = 0
    """Per token that it has in view."""
    window: int | None = None
    """The most tokens that it has in view; None: all."""
    fixed_bytes: int = 0
    """However long the sequence is."""

    def batch(self, rows: int, tokens: int, slice_tokens: int) -> int:
        """Bytes of so many rows with room for `tokens` each, right after a slice over all of them."""
        held = rows * tokens if self.window is None else min(rows * tokens, rows * self.window + slice_tokens)
        return self.token_bytes * held + self.fixed_bytes * rows


@dataclass(frozen=True, slots=True)
class Footprint:
    """What this rank's layers keep of sequences."""

    layers: tuple[tuple[Layer, int], ...]
    """Different ones, and how many there are of each."""
    step: int = STEP
    """Tokens by which caches grow."""
    slice_tokens: int = LARGEST_SLICE
    """The most tokens of a slice of prompts, over all of them."""

    @classmethod
    def of(cls, caches: Sequence[Cache], slice_tokens: int = LARGEST_SLICE) -> Self:
        """Measured on caches of one sequence, or of a batch of one, that have seen a token or more.

        Only shapes are looked at: what they hold need not have been computed.
        """
        found = Counter(layer for cache in caches for layer in _layers(cache))
        return cls(tuple(found.items()), slice_tokens=slice_tokens)

    # -- what runs -------------------------------------------------------------------------------

    def batch(self, lengths: Sequence[int]) -> int:
        """Bytes of a batch of sequences of so many tokens, each row padded to the longest."""
        if not lengths:
            return 0
        room = self._room(lengths)
        return sum(count * layer.batch(len(lengths), room, self.slice_tokens) for layer, count in self.layers)

    def sequence(self, tokens: int) -> int:
        """Bytes of a sequence of so many tokens by itself."""
        return self.batch([tokens])

    def copying(self, lengths: Sequence[int]) -> int:
        """Bytes that it takes besides, for a moment, to make such a batch out of others, layer by layer.

        MLX concatenates: old and new arrays are there together. Rows that decode already are for that moment
        as long as those that join straight after a slice.
        """
        if not lengths:
            return 0
        room, rows = self._room(lengths), len(lengths)
        largest = max(
            (layer.batch(rows, room, rows * self.slice_tokens) for layer, _ in self.layers), default=0
        )
        return min(COPIED_LAYERS, sum(count for _, count in self.layers)) * largest

    def tokens_in(self, byte_budget: int) -> int:
        """The longest sequence that takes no more by itself; ENDLESS where length does not matter."""
        return longest(self.sequence, byte_budget)

    def _room(self, lengths: Sequence[int]) -> int:
        tokens = max(lengths)
        return tokens + self.step - 1 if tokens else 0

    # -- what is kept of prefixes ----------------------------------------------------------------

    @property
    def token_bytes(self) -> int:
        """Per token, in layers whose caches can be cut between any two tokens."""
        return sum(count * layer.token_bytes for layer, count in self.layers if layer.window is None)

    @property
    def state_bytes(self) -> int:
        """At one place, in layers whose caches can't be cut: windows, full, and what has no length."""
        return sum(
            count * (layer.token_bytes * (layer.window or 0) + layer.fixed_bytes)
            for layer, count in self.layers
        )


def longest(cost: Callable[[int], int], byte_budget: int) -> int:
    """The most tokens whose cost, which must not fall with their number, is within a budget; 0: none are."""
    return max(bisect_right(range(ENDLESS + 1), byte_budget, key=cost) - 1, 0)


def _layers(cache: Cache) -> Iterator[Layer]:
    parts = cast("Sequence[Cache]", getattr(cache, "caches", ()))
    if parts:
        for part in parts:
            yield from _layers(part)
    elif not hasattr(cache, "keys"):
        yield Layer(fixed_bytes=cache.nbytes)
    elif tokens := _allocated(cache.keys):
        # A layer without keys shares another one's.
        window = getattr(cache, "max_size", None) or getattr(cache, "chunk_size", None)
        yield Layer(cache.nbytes // tokens, cast("int | None", window))


def _allocated(keys: object) -> int:
    """How many tokens keys [1, heads, tokens, head], or the parts of quantised ones, have room for."""
    first = keys[0] if isinstance(keys, tuple | list) else keys
    return first.shape[2] if isinstance(first, mx.array) else 0
