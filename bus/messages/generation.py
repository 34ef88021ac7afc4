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


class ToolCallDelta(Value, frozen=True):
    """More of one call of an answer. The first delta of a call has its id and name; arguments join up."""

    index: int
    """Which of the answer's calls."""
    id: str = ""
    name: str = ""
    arguments: str = ""
    """A piece of a JSON object's text."""


class ChatPrompt(Message, frozen=True):
    """A conversation, to be rendered with the model's own chat template."""

    messages: tuple[ChatMessage, ...]
    tools: tuple[str, ...] = ()
    """Each tool's definition in OpenAI's form, as JSON that only the template looks into."""
    template_options: str = "{}"
    """Extra arguments for the chat template (`chat_template_kwargs`), a JSON object."""
    thinking: bool | None = None
    """Whether the model is to reason first, where its template can say so; None: as the template has it."""
    effort: str | None = None
    """How much it is to reason, in the template's own words (`reasoning_effort`)."""


class TextPrompt(Message, frozen=True):
    """Plain text, to be continued as it stands."""

    text: str


class TokenPrompt(Message, frozen=True):
    """Token ids, to be continued as they stand."""

    tokens: tuple[int, ...]


class InfillPrompt(Message, frozen=True):
    """What stands before and after a gap, which the answer fills; for models with tokens for that."""

    prefix: str
    suffix: str


Prompt: TypeAlias = ChatPrompt | TextPrompt | TokenPrompt | InfillPrompt


class JsonFormat(Message, frozen=True):
    """The answer is JSON: any object, or what a schema describes."""

    schema: str = ""
    """A JSON schema, as text; empty: any object."""
    name: str = ""


class RegexFormat(Message, frozen=True):
    """The whole answer matches a regular expression, in the syntax of Rust's `regex`."""

    pattern: str


class GrammarSyntax(StrEnum):
    """How a grammar is written."""

    LARK = "lark"
    """As llguidance reads it."""
    GBNF = "gbnf"
    """As llama.cpp reads it."""


class GrammarFormat(Message, frozen=True):
    """The answer is a sentence of a grammar."""

    grammar: str
    syntax: GrammarSyntax = GrammarSyntax.LARK


class CallFormat(Message, frozen=True):
    """The answer is a call of a tool (or several), in the model's own syntax."""

    function: str = ""
    """The one to be called; empty: any of those offered."""


Format: TypeAlias = JsonFormat | RegexFormat | GrammarFormat | CallFormat
"""What the content of an answer is held to; reasoning before it is free."""


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
    reasoning_tokens: int | None = None
    """The most that may be spent on reasoning: then it is ended, and the answer begins; None: no limit."""
    calls: int | None = None
    """The answer ends after so many tool calls (`parallel_tool_calls: false` is 1); None: no limit."""
    min_tokens: int = 0
    """Neither the end of sequence nor a stop string ends an answer that has fewer; what it is held to may."""


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
    logprob: float | None
    """None: nothing stands before it, so it has none (the first token of an echoed prompt)."""
    top: tuple[TopLogprob, ...] = ()


class Finish(Value, frozen=True):
    """The end of a sequence."""

    reason: FinishReason
    completion_tokens: int
    """All that was generated, the end-of-sequence token included."""
    reasoning_tokens: int = 0
    stop_string: str | None = None
    cached_tokens: int = 0
    """Of the prompt: what had not to be computed, because it was kept from before."""


class Delta(Value, frozen=True):
    """What one step added to one sequence. Texts hold whole characters only, and never a stop string."""

    sequence: SequenceId
    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    tokens: int = 0
    """How many tokens were generated since the last delta, shown or held back."""
    logprobs: tuple[TokenLogprob, ...] = ()
    finish: Finish | None = None
    ids: tuple[int, ...] = ()
    """Those tokens, so that another engine can go on from them."""
    embedding: bytes = b""
    """With the finish of an embedding: its numbers, float32, little-endian."""
