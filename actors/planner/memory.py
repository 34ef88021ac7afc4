"""How much of a node's memory is really free, and how many layers of a model go into it."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Final, Self

from bus.messages.facts import AcceleratorKind, NodeFact, Pressure, Shape

HEADROOM: Final = 0.10
"""Share of a machine's memory that is left to whatever else it does."""

MOST_FREED: Final = 2 * 2**30
"""Freed memory that MLX may keep in all engines of a node."""

FREED_PERCENT: Final = 5
"""The same, as a share of the node's memory: what is less counts."""

LEAST_FREED: Final = 64 * 2**20
"""The same in each engine, at least."""

WORKSPACE_PERCENT: Final = 115
"""What loading and computing hold, in percent of the weights' bytes."""

SMALLEST_CONTEXT: Final = 512
"""A model that can't have even so many tokens of KV cache is not placed."""

DEFAULT_CONTEXT: Final = 4096
"""For a model whose configuration does not say what it was made for."""

KV_BITS: Final = (8, 4)
"""What a number of a KV cache can be cut down to."""

_STEP: Final = 256
"""mlx-lm's caches grow by so many tokens at once, and may stand that far ahead of what they hold."""

_COPIED_LAYERS: Final = 3
"""While a batch is made anew its layers are copied one after the other: so many are reckoned to be there
twice, as the engine does."""

_GROUP: Final = 64
"""So many numbers of a KV cache that is cut down share a scale and a bias."""


def kv_bytes_at(size: int, element_bytes: int, bits: int | None) -> int:
    """What `size` bytes of KV cache, of numbers of `element_bytes` each, take with so many bits each.

    A group's scale and bias are each as large as a number was before.
    Source: `mx.quantize`, as mlx-lm's `QuantizedKVCache` uses it.

    >>> kv_bytes_at(128, 2, 8), kv_bytes_at(128, 2, 4), kv_bytes_at(128, 2, None)
    (68, 36, 128)
    """
    if bits is None:
        return size
    return -(-size * (_GROUP * bits // 8 + 2 * element_bytes) // (_GROUP * element_bytes))


def free_bytes(node: NodeFact, promised: int = 0, held: int = 0) -> int:
    """What may be placed on a node now, in bytes.

    `promised` is declared there but not in use yet; `held` is what placed models hold there already, which
    a machine's free memory shows but its accelerator's limit does not. What MLX may keep of freed memory is
    no room for a model: engines are given their budgets without it.
    """
    memory, limit = node.memory, node.accelerator.memory_bytes
    free = memory.available_bytes - promised - int(memory.total_bytes * HEADROOM)
    free -= freed_bytes(memory.total_bytes, 1)
    if limit is not None:
        left = limit - held - promised
        if node.accelerator.kind is AcceleratorKind.CUDA:  # its own memory: the machine's does not matter
            free = left - int(limit * HEADROOM) - freed_bytes(limit, 1)
        else:
            free = min(free, left - freed_bytes(memory.total_bytes, 1))
    if memory.pressure is Pressure.WARNING:
        free //= 2
    return max(0, free)


def freed_bytes(total: int, engines: int) -> int:
    """Freed memory that MLX may keep in each of so many engines, on a node of `total` bytes.

    >>> [freed_bytes(size * 2**30, engines) // 2**20 for size, engines in ((16, 1), (16, 2), (1, 2))]
    [819, 409, 64]
    """
    return max(LEAST_FREED, min(MOST_FREED, total * FREED_PERCENT // 100) // engines)


@dataclass(frozen=True, slots=True)
class Room:
    """What a node has for its part of a model, in bytes."""

    free: int
    cache: int | None = None
    """KV cache at most; None: as much as is free."""

    @classmethod
    def tightest(cls, rooms: Iterable[Self]) -> Self:
        """What each of these nodes has."""
        known = list(rooms)
        return cls(min(room.free for room in known), least(*(room.cache for room in known)))


def least(*limits: int | None) -> int | None:
    """The lowest limit of those that there are; None: there is none.

    >>> least(3, None, 2), least(None)
    (2, None)
    """
    return min((limit for limit in limits if limit is not None), default=None)


@dataclass(frozen=True)
class Needs:
    """What a model's parts need on each node, at one context and one number of tensor ranks."""

    shape: Shape
    context: int
    tensor: int
    kv_bits: int | None = None
    """Of each number in the KV cache; None: as it is computed."""
    draft: Shape | None = None
    """A model beside it on rank 0's node. It is counted on every node of the first stage: they take as much
    as the one that needs most."""
    kv_bytes: int | None = None
    """KV cache on each node at most; None: what its memory allows."""

    @property
    def layers(self) -> int:
        """How many there are."""
        return len(self.shape.layer_bytes)

    @cached_property
    def ends(self) -> int:
        """What the first and the last stage need for what is not in layers: each all of it, since
        the embedding is often the head as well, and tensor ranks don't divide it."""
        return _workspace(self.shape.other_bytes)

    @cached_property
    def weights(self) -> list[int]:
        """Of the first n layers, by n."""
        sizes = (-(-_workspace(size) // self.tensor) for size in self.shape.layer_bytes)
        return list(accumulate(sizes, initial=0))

    @cached_property
    def cache_per_token(self) -> list[int]:
        """KV cache of the first n layers, by n."""
        shape, share = self.shape, self.tensor if self.shape.kv_divides else 1
        sizes = (
            kv_bytes_at(-(-size // share), shape.element_bytes, self.kv_bits)
            for size in shape.kv_bytes_per_token
        )
        return list(accumulate(sizes, initial=0))

    def stage(self, first: int, end: int) -> int:
        """Bytes on each node of a stage."""
        return self.fixed(first, end) + self.cache(first, end)

    def fixed(self, first: int, end: int) -> int:
        """Of those, what is not KV cache."""
        ends = self.ends if first == 0 or end == self.layers else 0
        draft = self._beside.fixed(0, self._beside.layers) if self._beside and first == 0 else 0
        return self.weights[end] - self.weights[first] + ends + draft

    def cache(self, first: int, end: int) -> int:
        """Of those, KV cache for one whole context, as much as the engine reckons with when it admits one."""
        return self._tokens * self._per_token(first, end)

    def longest_context(self, first: int, end: int, room: Room) -> int | None:
        """How many tokens of context a stage has room for; None: as many as one likes."""
        per_token, left = self._per_token(first, end), room.free - self.fixed(first, end)
        most = least(left, self.kv_bytes, room.cache) or 0
        return tokens_in(most, per_token) if per_token else None

    def fits(self, first: int, end: int, room: Room) -> bool:
        """Whether each node of a stage has room for it."""
        limit = least(self.kv_bytes, room.cache)
        return self.stage(first, end) <= room.free and (limit is None or self.cache(first, end) <= limit)

    def capacity(self, room: Room, *, at_end: bool, leads: bool = False) -> int:
        """How many layers, wherever in the model they are, a node has room for.

        `at_end`: of a first or last stage; `leads`: of the first."""
        left = room.free - self.ends if at_end else room.free
        cache_left = least(self.kv_bytes, room.cache)
        if leads and self._beside is not None:
            left -= self._beside.stage(0, self._beside.layers)
            if cache_left is not None:
                cache_left -= self._beside.cache(0, self._beside.layers)
        if cache_left is not None:
            return min(_most(self._windows, left), _most(self._cache_windows, cache_left))
        return _most(self._windows, left)

    @cached_property
    def _beside(self) -> "Needs | None":
        """What the draft model needs, whole, and with its KV cache as it is computed."""
        return Needs(self.draft, self.context, 1) if self.draft is not None else None

    @cached_property
    def _windows(self) -> list[int]:
        """The most that n neighbouring layers need, by n."""
        pairs = zip(self.weights, self.cache_per_token, strict=True)
        return self._widest([weights + self._tokens * cache for weights, cache in pairs])

    @cached_property
    def _cache_windows(self) -> list[int]:
        """Of KV cache the most that n neighbouring layers need, by n."""
        return self._widest([self._tokens * cache for cache in self.cache_per_token])

    def _widest(self, upto: list[int]) -> list[int]:
        """`upto`: what the first n layers need, by n, without what is there twice."""
        return [
            max(map(int.__sub__, upto[count:], upto[: len(upto) - count]))
            + self._tokens * self._copied(count)
            for count in range(len(upto))
        ]

    @property
    def _tokens(self) -> int:
        return self.context + _STEP

    def _copied(self, layers: int) -> int:
        """Of each token, what is there twice of so many layers."""
        return min(_COPIED_LAYERS, layers) * self._largest_cache

    @cached_property
    def _largest_cache(self) -> int:
        upto = self.cache_per_token
        return max(map(int.__sub__, upto[1:], upto), default=0)

    def _per_token(self, first: int, end: int) -> int:
        draft = self._beside._per_token(0, self._beside.layers) if self._beside and first == 0 else 0
        return self.cache_per_token[end] - self.cache_per_token[first] + self._copied(end - first) + draft


def tokens_in(kv_bytes: int, per_token: int) -> int:
    """How long a context is whose KV cache takes so many bytes, as `Needs.cache` counts it."""
    return max(0, kv_bytes // per_token - _STEP)


def shortened(context: int, cache_bytes: int, kv_bytes: int) -> int:
    """How much of a context fits into `kv_bytes` of KV cache, if all of it takes `cache_bytes`."""
    if cache_bytes <= kv_bytes:
        return context
    return max(0, kv_bytes * (context + _STEP) // cache_bytes - _STEP)


def contexts(own: int | None, asked: int | None) -> list[int]:
    """The contexts to try, longest first: the one asked for, or else the model's own and shorter ones.

    A model is never given more than it was made for.
    """
    if asked is not None:
        return [min(asked, own or asked)]
    longest = own or DEFAULT_CONTEXT
    tried = [longest]
    while tried[-1] > SMALLEST_CONTEXT:
        tried.append(max(SMALLEST_CONTEXT, tried[-1] // 2))
    return tried


def runs(layers: Sequence[int]) -> list[tuple[int, int]]:
    """First layer and the layer after the last, of each stage.

    >>> runs([3, 2])
    [(0, 3), (3, 5)]
    """
    ends = list(accumulate(layers))
    return list(zip([0, *ends], ends, strict=False))


def _most(windows: Sequence[int], left: int) -> int:
    """The most layers that need no more than is left."""
    return bisect_right(windows, left) - 1 if left >= 0 else 0


def _workspace(weights: int) -> int:
    return -(-weights * WORKSPACE_PERCENT // 100)
