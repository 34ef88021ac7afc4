"""A rank's share of the kept prefixes: for each node of the index, what this rank's layers computed of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import mlx.core as mx

from engine.memory.caches import Cache
from engine.prefixes.layers import (
    Piece,
    arrays_in,
    can_cut,
    cut_out,
    fill,
    leaves,
    set_state,
    state_of,
)
from engine.steps.store_orders import Forget, Keep, Mark, Split


@dataclass(frozen=True, slots=True)
class Share:
    """What is kept of a node."""

    tokens: tuple[Piece, ...]
    """Of each cache that can be cut."""
    states: tuple[object, ...] | None = None
    """At its end, of each cache that can't be; None: not kept."""

    @property
    def arrays(self) -> list[mx.array]:
        own = [array for piece in self.tokens for array in piece.arrays]
        return own + [array for state in self.states or () for array in arrays_in(state)]

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays)


class Segments:
    """Carries out the index's orders, in their order.

    `caches`, one per layer, are those of one sequence, or, with `row`, of a batch that it is a row of: taking
    it out of the batch first would copy all of it, to keep a few tokens.
    Each order computes what it keeps at once: every rank has the same orders at the same point of the plan.
    """

    def __init__(self, fresh: Callable[[], list[Cache]]) -> None:
        """`fresh` makes this rank's layers' caches for a sequence that has nothing computed yet."""
        self._fresh = fresh
        empty = [can_cut(leaf) for leaf in leaves(fresh())]
        self._cuts, self._states = empty.count(True), empty.count(False)
        self._shares: dict[int, Share] = {}
        self._nbytes = 0

    def __len__(self) -> int:
        """Nodes."""
        return len(self._shares)

    @property
    def nbytes(self) -> int:
        """Memory for all that is kept."""
        return self._nbytes

    @property
    def shares(self) -> Mapping[int, Share]:
        """By node."""
        return self._shares

    def take_up(self, shares: Mapping[int, Share]) -> None:
        """Hold these instead. Raises ValueError, and holds what it did, where they are of other layers."""
        for share in shares.values():
            if len(share.tokens) != self._cuts or len(share.states or ()) not in (0, self._states):
                raise ValueError("these prefixes were kept of other layers")
        self._shares = dict(shares)
        self._nbytes = sum(share.nbytes for share in shares.values())

    # -- orders ----------------------------------------------------------------------------------

    def keep(self, order: Keep, caches: Sequence[Cache], row: int | None = None) -> None:
        """Raises ValueError where the caches don't hold these tokens."""
        own = [leaf for leaf in leaves(caches) if can_cut(leaf)]
        tokens = tuple(cut_out(leaf, order.begin, order.end, row) for leaf in own)
        self._put(order.node, Share(tokens, _states(caches, row) if order.state else None))

    def mark(self, order: Mark, caches: Sequence[Cache], row: int | None = None) -> None:
        """Raises LookupError for a node that is not kept."""
        share = self._of(order.node)
        self._put(order.node, Share(share.tokens, _states(caches, row)))

    def split(self, order: Split) -> None:
        """Raises LookupError for a node that is not kept."""
        share = self._of(order.node)
        upper = Share(tuple(piece.part(0, order.at) for piece in share.tokens))
        lower = Share(tuple(piece.part(order.at, len(piece)) for piece in share.tokens), share.states)
        self._put(order.node, upper)
        self._put(order.rest, lower)

    def forget(self, order: Forget) -> None:
        """Raises LookupError for a node that is not kept."""
        for node in order.nodes:
            share = self._of(node)
            self._drop(node)
            if order.states_only:
                self._put(node, Share(share.tokens))

    def fetch(self, path: Sequence[tuple[int, int]]) -> list[Cache]:
        """Caches for a sequence that begins with these nodes' tokens, not computed yet; `path` is a Fetch's.

        Raises LookupError for a node, or its state, that is not kept.
        """
        caches = self._fresh()
        if not path:
            return caches
        shares = [(self._of(node), count) for node, count in path]
        own = list(leaves(caches))
        for place, leaf in enumerate(leaf for leaf in own if can_cut(leaf)):
            fill(leaf, [share.tokens[place].first(count) for share, count in shares])
        if self._states:
            node = path[-1][0]
            states = self._of(node).states
            if states is None:
                raise LookupError(f"no state is kept at the end of node {node}")
            for leaf, state in zip((leaf for leaf in own if not can_cut(leaf)), states, strict=True):
                set_state(leaf, state)
        return caches

    # -- bookkeeping -----------------------------------------------------------------------------

    def _of(self, node: int) -> Share:
        share = self._shares.get(node)
        if share is None:
            raise LookupError(f"node {node} is not kept here")
        return share

    def _put(self, node: int, share: Share) -> None:
        mx.eval(share.arrays)
        self._drop(node)
        self._shares[node] = share
        self._nbytes += share.nbytes

    def _drop(self, node: int) -> None:
        if node in self._shares:
            self._nbytes -= self._shares.pop(node).nbytes


def _states(caches: Sequence[Cache], row: int | None) -> tuple[object, ...]:
    return tuple(state_of(leaf, row) for leaf in leaves(caches) if not can_cut(leaf))
