"""What is asked of those who compute steps, and what they tell of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from engine.memory.footprint import Footprint
from engine.steps.entry import Entry
from engine.steps.likely import Likely
from engine.steps.store_orders import StoreOrder


@dataclass(frozen=True, slots=True)
class Progress:
    """How much of a sequence's prompt is computed."""

    uid: int
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Chosen:
    """The next token of a sequence, and what was likely where that was asked for."""

    uid: int
    token: int
    likely: Likely | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """A sequence that goes on where it was put aside, or that begins with what is kept of another."""

    uid: int
    done: int
    begun: bool = True
    """The ranks know it already."""


@dataclass(frozen=True, slots=True)
class Stepped:
    """News of the oldest step that is under way in a lane."""

    lane: int
    chosen: list[Chosen]
    """In the order in which they follow each other, where a sequence has several."""
    failed: tuple[tuple[int, str], ...]
    """Sequences whose own rules failed, and why; the step went on without them."""
    decoded: bool
    """Its tokens are chosen: the lane's next step can begin."""
    done: bool
    """All of it is computed."""
    prompts: tuple[tuple[int, tuple[Likely, ...]], ...] = ()
    """By uid, what was likely at the next places of its prompt, where that was asked for."""
    vectors: tuple[tuple[int, bytes], ...] = ()
    """By uid, its embedding: float32, little-endian."""
    slice_s: float | None = None
    """Of the time since its tokens were chosen, what its slice took; the rest went into the next step, which
    was begun before it. None: all of it."""


class Stepper(Protocol):
    """What computes steps, in one lane or in several that are independent of each other.

    A step decodes one token for each sequence of its lane that has its prompt behind it, or more where the
    guesses that come along turn out right; lets those join whose prompt is computed but for its last token,
    and prefills a slice of each of the others.
    """

    @property
    def lanes(self) -> int: ...

    @property
    def depth(self) -> int:
        """How many steps of a lane may be under way while none of them decodes."""

    @property
    def goes_ahead(self) -> bool:
        """Whether it begins steps before the tokens of the last ones are there."""

    @property
    def vocabulary(self) -> int:
        """How many token ids the model has; 0 until a token was chosen."""

    def insert(self, lane: int, entry: Entry, kept: Kept | None) -> int:
        """Have a sequence computed from the next step on, or from what is kept on; returns its uid."""

    def put_aside(self, lane: int, uid: int, done: int) -> Kept:
        """Take out a sequence in the middle of its prefill, and keep the `done` tokens that are computed."""

    def drop(self, kept: Kept) -> None:
        """Nobody will come back for what was kept."""

    def remove(self, lane: int, uids: Sequence[int]) -> None:
        """Forget sequences, wherever they stand, and what is kept for them."""

    def store(self, orders: Sequence[StoreOrder]) -> None:
        """Have these carried out before the next step of any lane, and before anything that is asked for
        after them."""

    def fetch(self, path: tuple[tuple[int, int], ...]) -> Kept:
        """Make a sequence of what is kept: for `insert`."""

    def computed(self, uid: int) -> int:
        """How many tokens of a sequence that decodes its caches hold."""

    def begin(
        self,
        lane: int,
        slice_tokens: int,
        decoding: Sequence[int],
        joining: Sequence[int],
        guesses: Sequence[tuple[int, ...]] = (),
        ahead: bool = True,
    ) -> None:
        """Begin a step: decode `decoding`, in this order, let `joining` join after them, and prefill
        `slice_tokens` of each other sequence at most; 0 where there is none. `guesses`: of what follows the
        last token of each in `decoding`; with them nobody joins, and the step before was
        not one after which the next had begun. `ahead`: the next step may begin at once, if this rank can."""

    def tidy(self, lane: int) -> None:
        """Nothing of a lane will be computed for now: let removals, and what is stored, take effect."""

    def wait(self) -> list[Stepped]:
        """Wait for news of steps under way, or until there is something new to do."""

    def settle(self) -> None:
        """Nothing is left to compute: give back memory."""

    def footprint(self) -> Footprint:
        """What sequences cost on this rank; to be asked while some are held."""

    @property
    def kv_bytes(self) -> int:
        """Of sequences and of what is kept for later ones, on this rank."""

    @property
    def stored_bytes(self) -> int:
        """Of those: kept for later ones."""
