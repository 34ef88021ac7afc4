"""Which prefixes are kept, which of them a prompt can begin with, and which go when memory is short.

It lives at rank 0 and knows no arrays: what it decides, it says as orders, and all ranks carry them out, in
the order in which they were given.

Where every layer's cache can be cut, a prompt can begin with any part of what is kept. Where a layer has a
sliding window or a state, it can begin only where a node ends whose state is kept; tokens that lead to no
state are of no use there, and go.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from engine.prefixes.tree import Node, Run, below, cut, run_of, walk
from engine.steps.store_orders import Forget, Keep, Mark, Split, StoreOrder

TRAILS: Final = 256
"""The most hashes that are told: they travel with every beat of an engine."""


@dataclass(frozen=True, slots=True)
class Hit:
    """What a prompt can begin with."""

    length: int = 0
    """Tokens."""
    path: tuple[tuple[int, int], ...] = ()
    """As in Fetch, which must be carried out before any order that the index gives later."""


class Index:
    """A tree of kept prefixes, least recently used first to go."""

    def __init__(self, sliceable: bool, token_bytes: int, state_bytes: int) -> None:
        """`sliceable`: the caches of all layers, of all ranks, can be cut at any token. `token_bytes`,
        `state_bytes`: what a token, and a state at a node's end, take on this rank."""
        self.sliceable = sliceable
        self._token_bytes = token_bytes
        self._state_bytes = state_bytes
        self._root = Node(-1, None, run_of(()))
        self._next_id = 0
        self._nodes = self._tokens = self._states = 0
        # Where a prompt can begin: nodes, or those of them that have a state. Least recently used first,
        # and where all layers can be cut, every node before its parent: the first one is a leaf.
        self._order: OrderedDict[Node, None] = OrderedDict()

    def __len__(self) -> int:
        """Nodes."""
        return self._nodes

    @property
    def tokens(self) -> int:
        """What prefixes have in common counts once."""
        return self._tokens

    @property
    def nbytes(self) -> int:
        return self._tokens * self._token_bytes + self._states * self._state_bytes

    @property
    def trails(self) -> tuple[int, ...]:
        """How the conversations begin that are kept, latest used last, at most `TRAILS` of them."""
        latest: dict[int, None] = {}
        for node in reversed(self._order):
            latest.update(dict.fromkeys(node.trail))
            if len(latest) >= TRAILS:
                break
        return tuple(reversed(list(latest)[:TRAILS]))

    # -- what a prompt can begin with ------------------------------------------------------------

    def peek(self, tokens: Sequence[int], at_most: int) -> int:
        """The length of what `match` would find; nothing counts as used."""
        return sum(count for _, count in self._usable(tokens, at_most))

    def match(self, tokens: Sequence[int], at_most: int) -> Hit:
        """The longest prefix of `tokens` that is kept, of no more than `at_most` tokens; it is used now."""
        path = self._usable(tokens, at_most)
        self._use([node for node, _ in path])
        return Hit(sum(count for _, count in path), tuple((node.id, count) for node, count in path))

    def known(self, tokens: Sequence[int]) -> int:
        """How many tokens of these are kept, whether or not a prompt can begin with them."""
        return sum(count for _, count in walk(self._root, run_of(tokens)))

    def cost(self, tokens: int) -> int:
        """Bytes on this rank of so many more tokens that are kept, and of a state at their end."""
        return tokens * self._token_bytes + self._state_bytes

    def _usable(self, tokens: Sequence[int], at_most: int) -> list[tuple[Node, int]]:
        path = walk(self._root, run_of(tokens[: max(at_most, 0)]))
        if not self.sliceable:
            while path and not (path[-1][0].state and path[-1][1] == len(path[-1][0].tokens)):
                path.pop()
        return path

    def _use(self, path: Sequence[Node]) -> None:
        """Nodes from the root on. A state in the middle counts as used only where conversations part: of
        one conversation alone, none but the last is ever gone back to."""
        for node in reversed(path):
            if self.sliceable or (node.state and (node is path[-1] or len(node.children) > 1)):
                self._order.move_to_end(node)

    # -- what is kept ----------------------------------------------------------------------------

    def keep(
        self, tokens: Sequence[int], uid: int, stands_at_end: bool, trail: tuple[int, ...] = ()
    ) -> tuple[StoreOrder, ...]:
        """Have kept what is not yet of `tokens`, all of which the cache of sequence `uid` holds.

        `stands_at_end`: it holds no more than these, so that the states of layers that can't be cut are
        those at their end; where it doesn't, nothing is kept of models with such layers. `trail`: hashes of
        how the conversation begins, shortest first, which `trails` tells as long as this is kept.
        """
        run = run_of(tokens)
        if not run or not (self.sliceable or stands_at_end):
            return ()
        path = walk(self._root, run)
        known = sum(count for _, count in path)
        nodes = [node for node, _ in path]
        orders: list[StoreOrder] = []
        within = bool(path) and path[-1][1] < len(nodes[-1].tokens)
        if within and not (self.sliceable and known == len(run)):
            nodes[-1] = self._split(nodes[-1], path[-1][1], orders)
        if known < len(run):
            nodes.append(self._add(nodes[-1] if nodes else self._root, run[known:]))
            orders.append(Keep(nodes[-1].id, uid, known, len(run), state=not self.sliceable))
        elif not self.sliceable and not nodes[-1].state:
            self._add_state(nodes[-1])
            orders.append(Mark(nodes[-1].id, uid))
        self._use(nodes)
        if len(trail) > len(nodes[-1].trail):
            nodes[-1].trail = trail
        return tuple(orders)

    def _split(self, lower: Node, at: int, orders: list[StoreOrder]) -> Node:
        rest = self._new_id()
        upper = cut(lower, at, rest)
        self._nodes += 1
        if self.sliceable:
            self._order[upper] = None
        orders.append(Split(upper.id, at, rest))
        return upper

    def _add(self, parent: Node, tokens: Run) -> Node:
        node = Node(self._new_id(), parent, tokens)
        parent.children[tokens[0]] = node
        self._nodes += 1
        self._tokens += len(tokens)
        if self.sliceable:
            self._order[node] = None
        else:
            self._add_state(node)
        return node

    def _add_state(self, node: Node) -> None:
        node.state = True
        self._states += 1
        self._order[node] = None

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    # -- what goes -------------------------------------------------------------------------------

    def shrink(self, to_bytes: int) -> tuple[StoreOrder, ...]:
        """Let go what was used least recently, until the rest takes `to_bytes` at most; below 0: all."""
        states: list[int] = []
        nodes: list[int] = []
        while self._order and self.nbytes > to_bytes:
            node, _ = self._order.popitem(last=False)
            if node.state:
                self._states -= 1
            node.state, node.trail = False, ()
            if node.children:
                states.append(node.id)
            else:
                nodes += self._remove(node)
        gone = set(nodes)
        states = [node for node in states if node not in gone]
        orders: list[StoreOrder] = []
        if states:
            orders.append(Forget(tuple(states), states_only=True))
        if nodes:
            orders.append(Forget(tuple(nodes)))
        return tuple(orders)

    def _remove(self, leaf: Node) -> list[int]:
        """A leaf, and what then leads nowhere; returns their numbers."""
        removed = []
        node = leaf
        while node.parent is not None and not node.children and node not in self._order:
            removed.append(node.id)
            self._nodes -= 1
            self._tokens -= len(node.tokens)
            del node.parent.children[node.tokens[0]]
            node = node.parent
        return removed

    # -- over a restart --------------------------------------------------------------------------

    def record(self) -> bytes:
        """All of it, for `from_record`."""
        lines = [
            _Line(node.id, node.parent.id if node.parent else -1, bytes(node.tokens), node.state, node.trail)
            for node in below(self._root)
        ]
        order = [node.id for node in self._order]
        return msgspec.msgpack.encode(_Record(self.sliceable, self._next_id, lines, order))

    @classmethod
    def from_record(cls, record: bytes, sliceable: bool, token_bytes: int, state_bytes: int) -> "Index":
        """What `record` gave, of a model of the same kind. Raises ValueError for anything else."""
        try:
            read = msgspec.msgpack.decode(record, type=_Record)
        except msgspec.MsgspecError as error:
            raise ValueError(f"this is no record of kept prefixes: {error}") from error
        if read.sliceable != sliceable:
            raise ValueError("this record of kept prefixes is of a model with other layers")
        index = cls(sliceable, token_bytes, state_bytes)
        try:
            index._read(read)
        except LookupError as error:
            raise ValueError(f"this record of kept prefixes names no node {error}") from error
        return index

    def _read(self, record: "_Record") -> None:
        nodes = {-1: self._root}
        for line in record.nodes:
            run = run_of(())
            run.frombytes(line.tokens)
            parent = nodes[line.parent]
            node = Node(line.id, parent, run, state=line.state, trail=line.trail)
            nodes[line.id] = parent.children[run[0]] = node
            self._tokens += len(run)
            self._states += line.state
        self._nodes = len(record.nodes)
        self._next_id = record.next_id
        self._order.update((nodes[node], None) for node in record.order)


class _Line(msgspec.Struct, frozen=True, array_like=True):
    """A node."""

    id: int
    parent: int
    tokens: bytes
    state: bool
    trail: tuple[int, ...]


class _Record(msgspec.Struct, frozen=True, array_like=True):
    sliceable: bool
    next_id: int
    nodes: list[_Line]
    """Each after its parent."""
    order: list[int]
