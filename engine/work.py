"""What the link hands to the step loop."""

from dataclasses import dataclass
from typing import TypeAlias

from bus.messages.base import SequenceId
from bus.messages.engine import Load
from engine.decoding import Decoding


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One accepted sequence: checked, tokenised, and with its limits worked out."""

    sequence: SequenceId
    tokens: list[int]
    """The prompt; never empty."""
    arrived_s: float
    """On the monotonic clock."""
    max_tokens: int
    """What is left of the context at most."""
    decoding: Decoding
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None
    echo: str = ""
    """The prompt's own text, where it is wanted back."""
    parsed: bool = False
    """The answer is a chat's: markers of reasoning and tool calls are not text."""
    tools: tuple[str, ...] = ()
    """Definitions of the tools that it may call, as JSON."""
    reasoning: bool = False
    """The prompt ends inside the model's reasoning."""
    continues: bool = False
    """The prompt ends in the middle of a text."""


@dataclass(frozen=True, slots=True)
class Drop:
    """These sequences are not wanted any more."""

    sequences: frozenset[SequenceId]


@dataclass(frozen=True, slots=True)
class End:
    """Stop the step loop."""


Work: TypeAlias = Load | Job | Drop | End
