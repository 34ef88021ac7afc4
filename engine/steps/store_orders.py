"""What becomes of kept prefixes: rank 0 says it in its plans, and every rank does it with its own share."""

from typing import TypeAlias

import msgspec


class Keep(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Keep what a sequence's cache holds of its tokens `begin` to `end`, as a new node."""

    node: int
    uid: int
    begin: int
    end: int
    state: bool = False
    """Keep the state at `end`, too, of layers that can't be cut: the cache stands there now."""


class Mark(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A node ends where a sequence's cache stands now: keep the state of layers that can't be cut."""

    node: int
    uid: int


class Split(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Cut a node: it keeps its first `at` tokens, and `rest` gets the others, and the state at their end."""

    node: int
    at: int
    rest: int


class Forget(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Let nodes go, or only the states that they end with."""

    nodes: tuple[int, ...]
    states_only: bool = False


class Fetch(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Begin a sequence with what is kept: nodes from the tree's root on, and how many tokens of each."""

    uid: int
    path: tuple[tuple[int, int], ...]


class Save(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Write all that is kept to disk, under this name, in place of what is there."""

    name: str
    record: bytes = b""
    """What rank 0 needs to know of it when it is read again."""


StoreOrder: TypeAlias = Keep | Mark | Split | Forget | Fetch | Save
"""What becomes of kept prefixes: every rank does the same with its own layers' share of them."""
