"""KV caches that keep a number in 8 or 4 bits, of batches too; mlx-lm has them for one sequence only.

What is kept and what attention does with it is mlx-lm's: `mx.quantize` over the last axis, and
`quantized_scaled_dot_product_attention` of `mlx_lm.models.base`, which serves every cache that has `bits`.
That attention is not fused: its scores, [batch, heads, tokens, context], are there all at once. Batches are
laid out as in mlx-lm's `BatchKVCache`: padded on the left, so that every row ends at the same place.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol, Self, TypeAlias, cast

import mlx.core as mx
from mlx_lm.models.base import create_causal_mask
from mlx_lm.models.cache import KVCache, create_attention_mask, dynamic_roll

from engine.memory.caches import Cache, merged

BITS: Final = (8, 4)
"""What a number may be kept with."""
GROUP_SIZES: Final = (64, 32)
"""How many numbers of a head may have a scale in common, best first."""

Triple: TypeAlias = tuple[mx.array, mx.array, mx.array]
"""Numbers packed into uint32, scales and biases: each [batch, heads, tokens, its own width]."""


class _Quantised:
    """Keys and values up to a place that is the same in every row."""

    step: Final = 256
    """Tokens by which arrays grow."""

    def __init__(self, bits: int, group_size: int) -> None:
        self.bits = bits
        self.group_size = group_size
        """At most, until the first keys show what divides their heads."""
        self._held: list[mx.array] = []
        """Keys and values as two Triples in one list; empty before the first tokens."""
        self._end = 0

    @property
    def keys(self) -> Triple | None:
        return _triple(self._held[:3]) if self._held else None

    @property
    def values(self) -> Triple | None:
        return _triple(self._held[3:]) if self._held else None

    @property
    def nbytes(self) -> int:
        return sum(held.nbytes for held in self._held)

    def size(self) -> int:
        """Tokens of every row, padding included."""
        return self._end

    def empty(self) -> bool:
        return not self._held

    def is_trimmable(self) -> bool:
        return True

    def _append(self, keys: mx.array, values: mx.array) -> tuple[Triple, Triple]:
        """Keep [batch, heads, tokens, head] more; returns all that is kept."""
        if not self._held:
            self.group_size = _group_size(keys.shape[3], values.shape[3], self.group_size)
        start = self._end
        self._end += keys.shape[2]
        more = [
            part
            for numbers in (keys, values)
            for part in mx.quantize(numbers, group_size=self.group_size, bits=self.bits)
        ]
        if not self._held or self._end > self._held[0].shape[2]:
            self._held = [self._enlarged(index, part, start) for index, part in enumerate(more)]
        for held, part in zip(self._held, more, strict=True):
            held[..., start : self._end, :] = part
        cut = [self._cut(held) for held in self._held]
        return _triple(cut[:3]), _triple(cut[3:])

    def _enlarged(self, index: int, more: mx.array, start: int) -> mx.array:
        """One of the arrays up to `start`, with room for `more` in whole steps."""
        rows, heads, tokens, width = more.shape
        room = mx.zeros((rows, heads, -(-tokens // self.step) * self.step, width), more.dtype)
        return mx.concatenate([self._held[index][..., :start, :], room], axis=2) if self._held else room

    def _cut(self, held: mx.array) -> mx.array:
        return held[..., : self._end, :]

    def _change(self, change: Callable[[mx.array], mx.array]) -> None:
        self._held = [change(held) for held in self._held]


class QuantisedCache(_Quantised):
    """One layer's, of one sequence: mlx-lm's QuantizedKVCache, which moreover can become part of a batch."""

    def __init__(self, bits: int, group_size: int = GROUP_SIZES[0]) -> None:
        super().__init__(bits, group_size)

    @property
    def offset(self) -> int:
        """Tokens that are kept."""
        return self._end

    @property
    def state(self) -> tuple[Triple | None, Triple | None, int, int, int]:
        """As mlx-lm's: keys, values, offset, group size, bits."""
        return self.keys, self.values, self._end, self.group_size, self.bits

    @state.setter
    def state(self, state: tuple[Triple | None, Triple | None, int, int, int]) -> None:
        keys, values, self._end, self.group_size, self.bits = state
        self._held = [*(keys or ()), *(values or ())]

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[Triple, Triple]:
        """Keep [1, heads, tokens, head] more; returns all that is kept.

        Raises ValueError for heads that can't be divided into groups.
        """
        return self._append(keys, values)

    def make_mask(
        self, tokens: int, return_array: bool = False, window_size: int | None = None
    ) -> mx.array | str | None:
        """For so many more tokens, as attention takes it."""
        mask = create_attention_mask(tokens, self._end, return_array, window_size)
        return cast("mx.array | str | None", mask)

    def trim(self, n: int) -> int:
        """Forget the last `n` tokens, or as many as there are; returns how many."""
        n = min(self._end, n)
        self._end -= n
        return n

    @staticmethod
    def merge(caches: "Sequence[QuantisedCache]") -> "BatchQuantisedCache":
        """A batch of these, in this order."""
        end = max(cache.offset for cache in caches)
        padding = [end - cache.offset for cache in caches]
        batch = BatchQuantisedCache(padding, caches[0].bits, min(cache.group_size for cache in caches))
        batch._held = _stacked([(cache, 1) for cache in caches], end, end)
        batch._end = end
        batch.offset = batch.offset + end
        return batch


class BatchQuantisedCache(_Quantised):
    """One layer's, of a batch."""

    def __init__(self, left_padding: Sequence[int], bits: int, group_size: int = GROUP_SIZES[0]) -> None:
        super().__init__(bits, group_size)
        self.left_padding = mx.array(list(left_padding))
        self.offset = -self.left_padding
        """Tokens of each row without its padding, [batch]."""
        self._right_padding: mx.array | None = None

    @property
    def state(self) -> tuple[Triple | None, Triple | None, mx.array, mx.array, int, int, int]:
        """Keys, values, offset, left padding, where rows end, group size, bits."""
        rows = (self.offset, self.left_padding)
        return self.keys, self.values, *rows, self._end, self.group_size, self.bits

    @state.setter
    def state(self, state: tuple[Triple | None, Triple | None, mx.array, mx.array, int, int, int]) -> None:
        keys, values, self.offset, self.left_padding, self._end, self.group_size, self.bits = state
        self._held = [*(keys or ()), *(values or ())]

    # -- what a model does with it ---------------------------------------------------------------

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[Triple, Triple]:
        """Keep [batch, heads, tokens, head] more; returns all that is kept. Raises ValueError for heads that
        can't be divided into groups."""
        self.offset = self.offset + keys.shape[2]
        return self._append(keys, values)

    def make_mask(self, tokens: int, return_array: bool = False, window_size: int | None = None) -> mx.array:
        """For so many more tokens, [batch, 1, tokens, all that is kept then].

        Always an array, as rows are padded differently.
        """
        mask = create_causal_mask(tokens, self._end, window_size, left_padding=self.left_padding)
        return cast(mx.array, mask)

    # -- tokens that come and go -----------------------------------------------------------------

    def prepare(self, *, lengths: list[int], right_padding: list[int]) -> None:
        """What comes next has so much padding on the right of each row."""
        if max(right_padding) > 0:
            self._right_padding = mx.array(right_padding)

    def finalize(self) -> None:
        """Move that padding to the left."""
        padding = self._right_padding
        if padding is None:
            return
        # All that is allocated is rolled: what comes round to the front was unused or padding before.
        self._change(lambda held: cast(mx.array, dynamic_roll(held, padding[:, None], axis=2)))
        self.offset = self.offset - padding
        self.left_padding = self.left_padding + padding
        self._right_padding = None

    def trim(self, n: int) -> int:
        """Forget the last `n` tokens of every row, or as many as there are; returns how many."""
        n = min(self._end, n)
        self._end -= n
        self.offset = self.offset - n
        return n

    # -- sequences that come and go --------------------------------------------------------------

    def filter(self, batch_indices: list[int]) -> None:
        """Keep these rows, one at least, in this order, and no padding that all of them have."""
        rows = mx.array(batch_indices)
        self.offset, padding = self.offset[rows], self.left_padding[rows]
        spare = cast(int, padding.min().item())
        self.left_padding = padding - spare
        self._change(lambda held: held[rows][..., spare:, :])
        self._end -= spare

    def extend(self, other: Self) -> None:
        """Take in another batch's rows, after those that are here."""
        end = max(self._end, other._end)
        # Room that is there is kept: without, the next token would have everything copied once more.
        length = max([end, *(batch._held[0].shape[2] for batch in (self, other) if batch._held)])
        self._held = _stacked([(batch, batch.offset.size) for batch in (self, other)], end, length)
        self.offset, self.left_padding = (
            mx.concatenate([self.offset, other.offset]),
            mx.concatenate([batch.left_padding + (end - batch._end) for batch in (self, other)]),
        )
        self.group_size = min(self.group_size, other.group_size)
        self._end = end

    def extract(self, idx: int) -> QuantisedCache:
        """One row, without its padding."""
        single = QuantisedCache(self.bits, self.group_size)
        start = cast(int, self.left_padding[idx].item())
        if self._held:
            single._held = [mx.contiguous(held[idx : idx + 1, :, start : self._end]) for held in self._held]
            single._end = self._end - start
        return single


def _triple(parts: Sequence[mx.array]) -> Triple:
    numbers, scales, biases = parts
    return numbers, scales, biases


def _stacked(members: Sequence[tuple[_Quantised, int]], end: int, length: int) -> list[mx.array]:
    """All rows of these, of each so many, moved so that they end at `end` of `length` tokens."""
    pattern = next((member._held for member, _ in members if member._held), [])
    return [
        mx.concatenate([_moved(member, rows, index, like, end, length) for member, rows in members])
        for index, like in enumerate(pattern)
    ]


def _moved(member: _Quantised, rows: int, index: int, like: mx.array, end: int, length: int) -> mx.array:
    if not member._held:
        return mx.zeros((rows, like.shape[1], length, like.shape[3]), like.dtype)
    held = member._cut(member._held[index])
    return mx.pad(held, [(0, 0), (0, 0), (end - member._end, length - end), (0, 0)])


def _group_size(keys: int, values: int, largest: int) -> int:
    """For heads of so many numbers."""
    for size in GROUP_SIZES:
        if size <= largest and keys % size == 0 and values % size == 0:
            return size
    widths = f"{keys} numbers" if keys == values else f"{keys} and {values} numbers"
    raise ValueError(f"its heads of {widths} can't be divided into groups of {GROUP_SIZES[-1]}")


# -- which models can have them --------------------------------------------------------------------


class Traceable(Protocol):
    """What has to be known of a network to find out."""

    def make_caches(self) -> list[Cache]: ...
    def forward(self, tokens: mx.array, caches: list[Cache]) -> mx.array: ...


def quantise(caches: Sequence[Cache], bits: int, group_size: int = GROUP_SIZES[0]) -> list[Cache]:
    """Fresh caches of one sequence, with those of plain keys and values made to keep `bits` bits a number.

    Others stay as they are: what slides, states, and what a model brings of its own. Groups are as large as
    heads allow, and `group_size` at most.
    """
    quantised: list[Cache] = []
    for cache in caches:
        if type(cache) is KVCache:
            cache = cast(Cache, QuantisedCache(bits, group_size))
        elif parts := _parts(cache):
            assemble = cast("Callable[..., Cache]", type(cache))
            cache = assemble(*quantise(parts, bits, group_size))
        quantised.append(cache)
    return quantised


def _parts(cache: Cache) -> Sequence[Cache]:
    return cast("Sequence[Cache]", getattr(cache, "caches", ()))


def _has_plain(caches: Sequence[Cache]) -> bool:
    return any(type(cache) is KVCache or _has_plain(_parts(cache)) for cache in caches)


def why_not(network: Traceable) -> str:
    """Why a network can't have a quantised KV cache, for a person to read; empty: it can.

    A prefill and a decode step of a batch are traced, and nothing of them is computed: attention that takes
    keys and values for arrays, or that mlx-lm has not for quantised ones, fails at their types and shapes.
    """
    if not _has_plain(network.make_caches()):
        return "none of its layers has a plain KV cache"
    try:
        batch = merged([quantise(network.make_caches(), min(BITS)) for _ in range(2)])
        network.forward(mx.zeros((2, 3), mx.int32), batch)
        network.forward(mx.zeros((2, 1), mx.int32), batch)
    except (AttributeError, TypeError) as error:
        return f"its attention does not leave keys and values to mlx-lm's own ({error})"
    except Exception as error:
        return f"its attention can't work on a quantised KV cache: {error}"
    return ""
