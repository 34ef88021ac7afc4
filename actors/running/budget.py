"""How much of a node's memory each engine on it may take for KV cache, and keep as freed memory. Pure.

All engines of a node are reckoned together, from the same facts, so that each of their Runners comes to the
same shares. What an engine holds already counts as free for it: a budget does not shrink because it is used.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from actors.planner.memory import HEADROOM, freed_bytes
from bus.messages.base import InstanceId
from bus.messages.facts import AcceleratorKind, NodeFact, Pressure

Key: TypeAlias = tuple[InstanceId, int]
"""An epoch of an instance."""

LEAST_SHARE: Final = 64 * 2**20
"""An engine whose contexts take less counts as if they took so much: its models' state may not grow at all,
and still takes something."""


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine that runs on a node, or is to."""

    key: Key
    fixed_bytes: int
    """What it takes at most beside KV cache: weights, and room to compute in."""
    context_bytes: int
    """KV cache of one whole context."""
    active_bytes: int = 0
    """As in Beat, and so are the next two."""
    kv_bytes: int = 0
    cached_bytes: int = 0
    loaded: bool = False
    """Its weights show in the node's free memory."""
    cap: int | None = None
    """KV cache that its wish allows; None: any."""

    @property
    def weight(self) -> int:
        """What its share is in proportion to: with it every engine has room for equally many contexts."""
        return max(self.context_bytes, LEAST_SHARE)

    @property
    def unfilled(self) -> int:
        """What it will still take beside KV cache."""
        if self.loaded and not self.active_bytes:  # its first beat is on its way
            return 0
        return max(0, self.fixed_bytes - max(0, self.active_bytes - self.kv_bytes))


@dataclass(frozen=True, slots=True)
class Share:
    """What one engine may have, as things stand at one moment."""

    kv_bytes: int
    cache_bytes: int
    context_bytes: int
    """Of the engine: a warning does not take this."""
    pressure: Pressure
    crowd: frozenset[Key]
    """Who shares."""


def share(node: NodeFact, engines: Sequence[Engine], own: Key, kv_memory: int | None = None) -> Share:
    """The share of the engine `own`, one of `engines`; `kv_memory`: what all may have at most."""
    (engine,) = (each for each in engines if each.key == own)
    granted = shares(room(node, engines), engines, kv_memory)
    return Share(
        kv_bytes=granted[own],
        cache_bytes=freed_bytes(_total(node), len(engines)),
        context_bytes=engine.context_bytes,
        pressure=node.memory.pressure,
        crowd=frozenset(each.key for each in engines),
    )


def room(node: NodeFact, engines: Sequence[Engine]) -> int:
    """KV cache that all engines of a node may have together, what they hold of it already included.

    A share of the machine's memory is left to others. Where that leaves less than one context each, contexts
    come first, as long as half of what is really available stays free.
    """
    total, available, limit = _total(node), node.memory.available_bytes, node.accelerator.memory_bytes
    held = sum(engine.kv_bytes for engine in engines)
    cached = sum(engine.cached_bytes for engine in engines)
    kept = freed_bytes(total, len(engines)) * len(engines)
    if _own_memory(node):
        available = total - cached - sum(engine.active_bytes for engine in engines)
    left = available + cached - kept - sum(engine.unfilled for engine in engines)
    contexts = sum(engine.weight for engine in engines)
    most = max(held + left - int(total * HEADROOM), min(contexts, held + (left // 2 if left > 0 else left)))
    if limit is not None and not _own_memory(node):
        fixed = sum(max(engine.fixed_bytes, engine.active_bytes - engine.kv_bytes) for engine in engines)
        most = min(most, limit - kept - fixed)
    return max(0, most)


def shares(room: int, engines: Iterable[Engine], kv_memory: int | None = None) -> dict[Key, int]:
    """Share KV cache out; what an engine may not take for its wish is the others'."""
    left = room if kv_memory is None else min(room, kv_memory)
    by_cap = sorted(engines, key=lambda each: (_cap_in_contexts(each), each.key))
    weights = sum(engine.weight for engine in by_cap)
    granted: dict[Key, int] = {}
    for engine in by_cap:
        fair = left * engine.weight // weights
        granted[engine.key] = fair if engine.cap is None else min(fair, engine.cap)
        left -= granted[engine.key]
        weights -= engine.weight
    return granted


def tightest(own: int, layers: int, others: Iterable[tuple[int, int]]) -> int:
    """The budget of a rank that has `own` bytes for `layers` layers, so that what it admits fits every rank.

    `others`: bytes and layers of each. Layers are taken for alike.

    >>> tightest(1000, 10, [(1000, 20), (900, 10)])
    500
    """
    return min([own, *(size * layers // count for size, count in others if count)])


def _cap_in_contexts(engine: Engine) -> float:
    return float("inf") if engine.cap is None else engine.cap / engine.weight


def _own_memory(node: NodeFact) -> bool:
    """Its accelerator's memory is what counts, not the machine's."""
    return node.accelerator.kind is AcceleratorKind.CUDA and node.accelerator.memory_bytes is not None


def _total(node: NodeFact) -> int:
    limit = node.accelerator.memory_bytes
    return limit if limit is not None and _own_memory(node) else node.memory.total_bytes
