"""A sequence as those know it who compute it, and the slices of its prompt."""

from dataclasses import dataclass

import msgspec

from bus.messages.generation import Format
from engine.steps.decoding import Decoding
from engine.steps.row import Row


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
    parsed: bool = False
    """It is a chat's: markers of reasoning and calls are no text."""
    marks: tuple[int, ...] = ()
    """A prefill slice ends at each of these places, ascending: what stands there may be kept."""
    prompt_logprobs: bool = False
    """Log-probabilities of the prompt's own tokens are told as well."""
    embed: bool = False
    """The embedding of all but its last token is wanted, which only stands at the end, and no answer."""
    answers: bool = True
    """A token is to be chosen after its prompt; else it ends with its prefill."""
    min_tokens: int = 0
    """Of its answer, before a token that ends it is chosen."""

    @property
    def constrained(self) -> bool:
        """Whether not every token may be chosen at every place."""
        return self.format is not None or self.reasoning_tokens is not None

    @property
    def looked_at(self) -> bool:
        """Its prompt is wanted token by token: all of it is computed, whatever is kept of it."""
        return self.embed or self.prompt_logprobs

    def slice_end(self, begin: int, most: int) -> int:
        """Where a slice ends that begins there and has so many tokens at most: never beyond a mark, and never
        with the last token, which is decoded."""
        end = min(begin + most, len(self.tokens) - 1)
        return next((mark for mark in self.marks if begin < mark < end), end)


@dataclass(frozen=True, slots=True)
class Sliced:
    """A slice of a prompt, as it was computed: row `row` of a batch, tokens `begin` to `end`."""

    uid: int
    entry: Entry
    row: int
    begin: int
    end: int
