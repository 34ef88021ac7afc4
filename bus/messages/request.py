"""The conversation of an API request with the node that took it."""

from typing import TypeAlias

from bus.messages.base import InstanceId, Message, ModelId, RequestId, Value
from bus.messages.generation import (
    Finish,
    Format,
    Prompt,
    Refusal,
    Sampling,
    Stopping,
    TokenLogprob,
    ToolCallDelta,
)


class Order(Message, frozen=True):
    """All that an API request asks for, whichever API family it came in by."""

    request: RequestId
    model: ModelId
    prompts: tuple[Prompt, ...]
    n: int = 1
    """Answers per prompt; answer i of prompt p has index p*n + i."""
    sampling: Sampling = Sampling()
    stopping: Stopping = Stopping()
    logprobs: int | None = None
    """As in Submit."""
    echo: bool = False
    """As in Submit."""
    timeout_s: float | None = None
    """The whole request's deadline; None: the node's setting."""
    format: Format | None = None
    """As in Submit."""
    priority: int = 0
    """As in Submit."""
    embed: bool = False
    """As in Submit."""


# -- what the request tells its client -----------------------------------------------------------


class Waiting(Message, frozen=True):
    """Nothing to show yet, and why; sent when the reason changes, and as prefill goes on."""

    reason: str
    done: int = 0
    total: int = 0
    """Prompt tokens computed and in all; 0 of 0 where that is not what it waits for."""
    eta_s: float | None = None
    """Until the prompt is computed, as far as can be told."""
    place: int | None = None
    """How many sequences are before it in the line; None: it stands in none."""


class Admitted(Message, frozen=True):
    """Every prompt fits and an instance has taken it: from here on there is an answer."""

    instance: InstanceId
    prompt_tokens: tuple[int, ...]
    """Per prompt."""


class Chunk(Message, frozen=True):
    """More of one answer."""

    index: int
    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    generated: int = 0
    """Tokens of this answer so far."""
    finish: Finish | None = None
    embedding: bytes = b""
    """As in Delta."""
    cached: int = 0
    """Of the prompt: what had not to be computed, as far as known."""


class Usage(Value, frozen=True):
    """What the request cost, in tokens, over all its prompts and answers."""

    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int = 0
    cached_tokens: int = 0


class Completed(Message, frozen=True):
    """Every answer has its finish: the one good end."""

    usage: Usage


class Failed(Message, frozen=True):
    """The request ended without (all of) its answers: the other end, also of a cancelled one."""

    refusal: Refusal


RequestEvent: TypeAlias = Waiting | Admitted | Chunk | Completed | Failed
"""Any number of Waiting, then Admitted, then Chunks with Waiting between; at the end exactly one of
Completed or Failed, and Failed may come first."""
