"""What to generate (prompt, sampling, stopping) and what came of it (deltas, finishes, refusals)."""

from enum import StrEnum
from typing import TypeAlias

import msgspec

from bus.messages.base import Message, SequenceId, Value

# -- what to generate ----------------------------------------------------------------------------


class ToolCall(Value, frozen=True):
    """A call of a function: by the model in its answer, or in the history of a conversation."""

    id: str
    name: str
    arguments: str
    """A JSON object as text, the way OpenAI's API carries it."""


class ChatMessage(Value, frozen=True):
    """One turn of a conversation, with its content flattened to text."""

    role: str
    content: str | None = None
    reasoning: str | None = None
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


class ChatPrompt(Message, frozen=True):
    """A conversation, to be rendered with the model's own chat template."""

    messages: tuple[ChatMessage, ...]
    tools: tuple[str, ...] = ()
    """Each tool's definition in OpenAI's form, as JSON that only the template looks into."""
    template_options: str = "{}"
    """Extra arguments for the chat template (`chat_template_kwargs`), a JSON object."""


class TextPrompt(Message, frozen=True):
    """Plain text, to be continued as it stands."""

    text: str


class TokenPrompt(Message, frozen=True):
    """Token ids, to be continued as they stand."""

    tokens: tuple[int, ...]


Prompt: TypeAlias = ChatPrompt | TextPrompt | TokenPrompt


_SEED_STRIDE = 0x9E3779B97F4A7C15
"""Far apart, so that neighbouring seeds of a client don't share answers (the golden ratio of 2**64)."""


class Sampling(Value, frozen=True):
    """How the next token is chosen, as far as the request says; temperature 0 is greedy.

    None: as the model's makers mean it (its generation_config.json), and plainly where they say nothing.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    """0: all of the vocabulary. Larger than the vocabulary: the same."""
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[int, float] = {}
    seed: int | None = None
    """The same seed and request give the same tokens, whatever else is in the batch."""

    def reseeded(self, answer: int) -> "Sampling":
        """The sampling of a prompt's answer of that number: with a seed, each gets one of its own."""
        if self.seed is None or answer == 0:
            return self
        return msgspec.structs.replace(self, seed=(self.seed + answer * _SEED_STRIDE) % 2**63)


class Stopping(Value, frozen=True):
    """When a sequence ends; without `max_tokens`, at its end-of-sequence token or the context's end."""

    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    """Texts that end the answer and are not part of it; they may span tokens."""
    ignore_eos: bool = False


# -- what came of it -----------------------------------------------------------------------------


class FinishReason(StrEnum):
    """Why a sequence ended, in OpenAI's words."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"


class RefusalCode(StrEnum):
    """Why a request was not taken; each API family gives it the status of its own."""

    INVALID = "invalid_value"
    CONTEXT_LENGTH = "context_length_exceeded"
    MODEL_NOT_FOUND = "model_not_found"
    DOES_NOT_FIT = "does_not_fit"
    OVERLOADED = "overloaded"
    TIMEOUT = "timeout"
    ENGINE_LOST = "engine_lost"
    ENGINE_FAILED = "engine_failed"
    CANCELLED = "cancelled"
    INSTANCE_NOT_FOUND = "instance_not_found"
    NOT_COORDINATOR = "not_coordinator"
    """Only between nodes: ask the coordinator instead."""


class Refusal(Value, frozen=True):
    """Why there is no answer, or no more of it, and what a person can do about it."""

    code: RefusalCode
    message: str
    param: str | None = None
    """The request's field that is to blame."""
    retry_after_s: float | None = None


class TopLogprob(Value, frozen=True):
    """One of the most likely tokens at a position."""

    token: int
    text: str
    bytes: bytes
    logprob: float


class TokenLogprob(Value, frozen=True):
    """A chosen token, its natural-log probability and its rivals, most likely first."""

    token: int
    text: str
    bytes: bytes
    logprob: float
    top: tuple[TopLogprob, ...] = ()


class Finish(Value, frozen=True):
    """The end of a sequence."""

    reason: FinishReason
    completion_tokens: int
    """All that was generated, the end-of-sequence token included."""
    reasoning_tokens: int = 0
    stop_string: str | None = None


class Delta(Value, frozen=True):
    """What one step added to one sequence. Texts hold whole characters only, and never a stop string."""

    sequence: SequenceId
    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tokens: int = 0
    """How many tokens were generated since the last delta, shown or held back."""
    logprobs: tuple[TokenLogprob, ...] = ()
    finish: Finish | None = None
    ids: tuple[int, ...] = ()
    """Those tokens, so that another engine can go on from them."""
