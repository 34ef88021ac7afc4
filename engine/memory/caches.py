"""mlx-lm's caches of keys and values (or of states), as far as the ranks of an instance handle them."""

import copy
from collections.abc import Hashable, Sequence
from typing import Protocol

import mlx.core as mx


class Cache(Protocol):
    """One layer's: of one sequence as mlx-lm makes it, or of a batch after a merge."""

    @property
    def state(self) -> object: ...
    @property
    def nbytes(self) -> int: ...
    def merge(self, caches: "Sequence[Cache]") -> "Cache":
        """A batch of these, each of one sequence."""

    def extract(self, idx: int) -> "Cache":
        """One sequence of a batch."""

    def filter(self, batch_indices: list[int]) -> None: ...
    def extend(self, other: "Cache") -> None: ...
    def prepare(self, *, lengths: list[int], right_padding: list[int]) -> None: ...
    def finalize(self) -> None: ...


def kind_of(cache: object) -> Hashable:
    """Equal for caches for which a model makes equal masks."""
    parts = getattr(cache, "caches", None)
    if parts is not None:
        return tuple(kind_of(part) for part in parts)
    return type(cache), getattr(cache, "max_size", None), getattr(cache, "chunk_size", None)


def fresh_like(single: Cache, batch: int) -> Cache:
    """An empty cache of a batch."""
    return single.merge([copy.deepcopy(single) for _ in range(batch)])


def merged(singles: Sequence[Sequence[Cache]]) -> list[Cache]:
    """Per layer, a batch of these sequences' caches. Raises ValueError for what mlx-lm can't batch."""
    batch = []
    for layer in zip(*singles, strict=True):
        if not hasattr(layer[0], "merge"):
            raise ValueError(f"mlx-lm can't batch sequences with a {type(layer[0]).__name__}")
        batch.append(layer[0].merge(list(layer)))
    return batch


def joined(batch: list[Cache], more: list[Cache]) -> list[Cache]:
    """Both batches as one, the second one's sequences last."""
    if not batch or not more:
        return batch or more
    for mine, theirs in zip(batch, more, strict=True):
        mine.extend(theirs)
        compute([mine])  # one by one: else the old and the new of many layers are in memory together
    return batch


def split(batch: list[Cache], chosen: list[int], rest: list[int]) -> tuple[list[Cache], list[Cache]]:
    """Two batches of one, by the places of their sequences; costs nothing where one of them is empty."""
    if not chosen or not rest:
        return (batch, []) if chosen else ([], batch)
    taken = copy.deepcopy(batch)
    for mine, theirs in zip(taken, batch, strict=True):
        mine.filter(chosen)
        theirs.filter(rest)
        compute([mine, theirs])  # one by one, as in `joined`
    return taken, batch


def compute(caches: Sequence[Cache]) -> None:
    """Have all that they hold computed."""
    mx.eval([cache.state for cache in caches])
