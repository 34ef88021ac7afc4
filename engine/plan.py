"""What the ranks of an instance tell each other: rank 0's plan of a step, and what came of it."""

from typing import TypeAlias

import msgspec

from engine.logprobs import Likely
from engine.steps import Entry


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


StoreOrder: TypeAlias = Keep | Mark | Split | Forget | Fetch | Save
"""What becomes of kept prefixes: every rank does the same with its own layers' share of them."""


class Insertion(msgspec.Struct, frozen=True, array_like=True):
    """A sequence that comes in, or that goes on where it was put aside."""

    uid: int
    entry: Entry | None = None
    """None: every rank has kept it."""


class Plan(msgspec.Struct, frozen=True, array_like=True):
    """One step of one lane, in the order in which every rank carries it out.

    Sequences leave, are put aside and come in; the next token of those that decode is computed, then a slice
    of the prompts of those that don't.
    """

    lane: int
    number: int
    remove: tuple[int, ...] = ()
    aside: tuple[int, ...] = ()
    insert: tuple[Insertion, ...] = ()
    join: tuple[int, ...] = ()
    """Those that decode from now on, their prompt's last token first."""
    tokens: tuple[int, ...] = ()
    """The last token of each sequence that decodes already, in the order in which they joined."""
    slice_tokens: int = 0
    """Of each prompt at most; 0: no prompt goes on."""
    ahead: bool = False
    """Begin with the next step at once: this rank has all of the model, and most likely it is the same
    sequences'."""
    store: tuple[StoreOrder, ...] = ()
    """Carried out first, in this order."""
    drafts: tuple[tuple[int, ...], ...] = ()
    """Guesses of what follows each of `tokens`; empty: none for anybody."""
    rejected: tuple[int, ...] = ()
    """How many of the last step's guesses, padding included, each sequence that decodes has to forget."""


class Result(msgspec.Struct, frozen=True, array_like=True):
    """What came of a step's tokens, or of its slice, at the rank that samples."""

    lane: int
    number: int
    tokens: tuple[tuple[int, int], ...] = ()
    """Uid and token."""
    likely: tuple[tuple[int, Likely], ...] = ()
    """By uid, where it was asked for."""
    failed: tuple[int, ...] = ()
    """Sequences whose own logits processor failed."""
    vocabulary: int = 0
    """How many token ids the model has; 0 where no token was chosen."""
    decoded: bool = True
    done: bool = True
    """Nothing of the step is missing."""
