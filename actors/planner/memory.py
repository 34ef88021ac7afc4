"""How much of a node's memory is really free, and how many layers of a model go into it."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Final

from bus.messages.facts import AcceleratorKind, NodeFact, Pressure, Shape

HEADROOM: Final = 0.10
"""Share of a machine's memory that is left to whatever else it does."""

WORKSPACE_PERCENT: Final = 115
"""What loading and computing hold, in percent of the weights' bytes."""

SMALLEST_CONTEXT: Final = 512
"""A model that can't have even so many tokens of KV cache is not placed."""

DEFAULT_CONTEXT: Final = 4096
"""For a model whose configuration does not say what it was made for."""


def free_bytes(node: NodeFact, promised: int = 0, held: int = 0) -> int:
    """What may be placed on a node now, in bytes.

    `promised` is declared there but not in use yet; `held` is what placed models hold there already, which
    a machine's free memory shows but its accelerator's limit does not.
    """
    memory, limit = node.memory, node.accelerator.memory_bytes
    free = memory.available_bytes - promised - int(memory.total_bytes * HEADROOM)
    if limit is not None:
        left = limit - held - promised
        if node.accelerator.kind is AcceleratorKind.CUDA:  # its own memory: the machine's does not matter
            free = left - int(limit * HEADROOM)
        else:
            free = min(free, left)
    if memory.pressure is Pressure.WARNING:
        free //= 2
    return max(0, free)


@dataclass(frozen=True)
class Needs:
    """What a model's parts need on each node, at one context and one number of tensor ranks."""

    shape: Shape
    context: int
    tensor: int

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
        share = self.tensor if self.shape.kv_divides else 1
        return list(accumulate((-(-size // share) for size in self.shape.kv_bytes_per_token), initial=0))

    def stage(self, first: int, end: int) -> int:
        """Bytes on each node of a stage."""
        return self._fixed(first, end) + self.context * self._per_token(first, end)

    def longest_context(self, first: int, end: int, free: int) -> int | None:
        """How many tokens of context a stage has room for; None: as many as one likes."""
        per_token = self._per_token(first, end)
        return max(0, free - self._fixed(first, end)) // per_token if per_token else None

    def capacity(self, free: int, at_end: bool) -> int:
        """How many layers, wherever in the model they are, fit into `free` bytes."""
        left = free - self.ends if at_end else free
        return bisect_right(self._windows, left) - 1 if left >= 0 else 0

    @cached_property
    def _windows(self) -> list[int]:
        """The most that n neighbouring layers need, by n."""
        pairs = zip(self.weights, self.cache_per_token, strict=True)
        upto = [weights + self.context * cache for weights, cache in pairs]
        return [max(map(int.__sub__, upto[count:], upto[: len(upto) - count])) for count in range(len(upto))]

    def _fixed(self, first: int, end: int) -> int:
        ends = self.ends if first == 0 or end == self.layers else 0
        return self.weights[end] - self.weights[first] + ends

    def _per_token(self, first: int, end: int) -> int:
        return self.cache_per_token[end] - self.cache_per_token[first]


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


def _workspace(weights: int) -> int:
    return -(-weights * WORKSPACE_PERCENT // 100)
