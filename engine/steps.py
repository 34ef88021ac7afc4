"""What goes into a step and what comes of it: the words that who plans and who computes have in common."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from bus.messages.generation import Format
from engine.decoding import Decoding
from engine.logprobs import Likely
from engine.sampling import Row


class Entry(msgspec.Struct, frozen=True):
    """A sequence as those know it who compute it."""

    tokens: list[int]
    """The prompt, and what was generated of the answer already; never empty."""
    row: Row = msgspec.field(default_factory=Row)
    penalties: Decoding | None = None
    """What changes its logits before a token is chosen; None: nothing."""
    generated: int = 0
    """How many of `tokens` were generated."""
    logprobs: int | None = None
    """How many rivals of each token are told; None: not even the token's own log-probability."""
    vocabulary: int = 0
    """How many token ids the model has; 0 where there are no penalties to know it."""
    format: Format | None = None
    """What the answer is held to, once it is not reasoning."""
    tools: tuple[str, ...] = ()
    """Definitions of the tools that it may call, as JSON."""
    reasoning: bool = False
    """The prompt ends inside the model's reasoning."""
    reasoning_tokens: int | None = None
    """The most that may be spent on reasoning."""
    marks: tuple[int, ...] = ()
    """A prefill slice ends at each of these places: what stands there may be kept."""
    prompt_logprobs: bool = False
    """Log-probabilities of the prompt's own tokens are told as well."""
    embed: bool = False
    """Its embedding is wanted, not its next token."""


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
    """A sequence whose prefill gave way to another's; `what` is its stepper's own affair."""

    uid: int
    done: int
    what: object = None


@dataclass(frozen=True, slots=True)
class Stepped:
    """News of the oldest step that is under way in a lane."""

    lane: int
    chosen: list[Chosen]
    failed: tuple[int, ...]
    """Sequences whose own logits processor failed; the step went on without it."""
    decoded: bool
    """Its tokens are chosen: the lane's next step can begin."""
    done: bool
    """All of it is computed."""


class Stepper(Protocol):
    """What computes steps, in one lane or in several that are independent of each other.

    A step decodes one token for each sequence of its lane that has its prompt behind it, lets those join
    whose prompt is computed but for its last token, and prefills a slice of each of the others.
    """

    @property
    def lanes(self) -> int: ...

    @property
    def depth(self) -> int:
        """How many steps of a lane may be under way while none of them decodes."""

    @property
    def vocabulary(self) -> int:
        """How many token ids the model has; 0 until a token was chosen."""

    def insert(self, lane: int, entry: Entry, kept: Kept | None) -> int:
        """Have a sequence computed from the next step on, or from where it was put aside; returns its uid."""

    def put_aside(self, lane: int, uid: int, done: int) -> Kept:
        """Take out a sequence in the middle of its prefill, and keep the `done` tokens that are computed."""

    def drop(self, kept: Kept) -> None:
        """Nobody will come back for what was kept."""

    def remove(self, lane: int, uids: Sequence[int]) -> None:
        """Forget sequences, wherever they stand, and what is kept for them."""

    def begin(self, lane: int, slice_tokens: int, decoding: Sequence[int], joining: Sequence[int]) -> None:
        """Begin a step: decode `decoding`, in this order, let `joining` join after them, and prefill
        `slice_tokens` of each other sequence at most; 0 where there is none."""

    def tidy(self, lane: int) -> None:
        """Nothing of a lane will be computed for now: let removals take effect."""

    def wait(self) -> list[Stepped]:
        """Wait for news of steps under way, or until there is something new to do."""

    def settle(self) -> None:
        """Nothing is left to compute: give back memory."""

    @property
    def kv_bytes(self) -> int: ...
