"""What the ranks of an instance tell each other: rank 0's plan of a step, and what came of it."""

import msgspec

from engine.steps.entry import Entry
from engine.steps.likely import Likely
from engine.steps.store_orders import StoreOrder


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
    """What becomes of kept prefixes, in this order: after what was rejected, and before all else."""
    guesses: tuple[tuple[int, ...], ...] = ()
    """Of what follows each of `tokens`, not all of the same length; empty: none for anybody."""
    rejected: tuple[int, ...] = ()
    """How many tokens at its end each sequence that decoded in this lane's last step has to forget; empty:
    none."""


class Result(msgspec.Struct, frozen=True, array_like=True):
    """What came of a step's tokens, or of its slice, at the rank that samples."""

    lane: int
    number: int
    tokens: tuple[tuple[int, int], ...] = ()
    """Uid and token, row by row; in a row with right guesses, several tokens of it in their order."""
    likely: tuple[tuple[int, Likely], ...] = ()
    """By the place in `tokens`, where it was asked for."""
    failed: tuple[tuple[int, str], ...] = ()
    """Sequences whose own rules failed, and why."""
    vocabulary: int = 0
    """How many token ids the model has; 0 where no token was chosen."""
    decoded: bool = True
    done: bool = True
    """Nothing of the step is missing."""
    prompts: tuple[tuple[int, tuple[Likely, ...]], ...] = ()
    """By uid, what was likely at the places of its prompt's slice, where that was asked for."""
    vectors: tuple[tuple[int, bytes], ...] = ()
    """By uid, embeddings that are complete."""
    slice_s: float | None = None
    """What its slice took, where the next step was begun before it."""
