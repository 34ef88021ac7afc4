"""The objects that OpenAI's API answers with, as structs that msgspec writes."""

from msgspec import UNSET, Struct, UnsetType

from bus.messages import request

# -- usage ---------------------------------------------------------------------------------------


class PromptDetails(Struct, frozen=True):
    """Of the prompt's tokens: those that need not be computed again."""

    cached_tokens: int = 0


class CompletionDetails(Struct, frozen=True):
    """Of the answer's tokens: those that were spent on thinking."""

    reasoning_tokens: int = 0
    accepted_prediction_tokens: int = 0
    """Of a `prediction` that the client sent along; that is not looked at, so none."""
    rejected_prediction_tokens: int = 0


class UsageBody(Struct, frozen=True):
    """What a request cost, in tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


def usage_body(usage: request.Usage) -> UsageBody:
    """The request's usage in OpenAI's shape."""
    return UsageBody(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        prompt_tokens_details=PromptDetails(usage.cached_tokens),
        completion_tokens_details=CompletionDetails(usage.reasoning_tokens),
    )


# -- logprobs ------------------------------------------------------------------------------------


class TopToken(Struct, frozen=True):
    """A rival of a chosen token."""

    token: str
    logprob: float
    bytes: list[int]


class ChosenToken(Struct, frozen=True):
    """A chosen token and its rivals, most likely first."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopToken]


class ChatLogprobs(Struct, frozen=True):
    """The logprobs of a chat answer."""

    content: list[ChosenToken]
    refusal: None = None


class CompletionLogprobs(Struct, frozen=True):
    """The logprobs of a plain completion, one entry per token in each list.

    The first token of an echoed prompt has null for both: nothing stands before it.
    """

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


# -- chat ----------------------------------------------------------------------------------------


class FunctionBody(Struct, frozen=True, omit_defaults=True):
    """A called function; in a stream the name comes once and the arguments in pieces."""

    arguments: str
    name: str | UnsetType = UNSET


class CallBody(Struct, frozen=True, omit_defaults=True):
    """A tool call; in a stream it has an index, and id and type come once."""

    function: FunctionBody
    index: int | UnsetType = UNSET
    id: str | UnsetType = UNSET
    type: str | UnsetType = UNSET


class DeltaBody(Struct, frozen=True, omit_defaults=True):
    """What a chunk adds; reasoning goes by both of its usual names."""

    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    tool_calls: tuple[CallBody, ...] | UnsetType = UNSET
    function_call: FunctionBody | UnsetType = UNSET
    """The older form of a call, of which an answer has one."""


class ChunkChoice(Struct, frozen=True):
    """One answer's part of a chunk."""

    index: int
    delta: DeltaBody
    logprobs: ChatLogprobs | None = None
    finish_reason: str | None = None


class ChatChunk(Struct, frozen=True):
    """One event of a chat stream."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    choices: tuple[ChunkChoice, ...]
    usage: UsageBody | UnsetType | None = UNSET


class ChatMessageBody(Struct, frozen=True):
    """A whole answer's message."""

    role: str
    content: str | None
    refusal: None = None
    reasoning_content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    tool_calls: tuple[CallBody, ...] | UnsetType = UNSET
    function_call: FunctionBody | UnsetType = UNSET
    """As in DeltaBody."""


class ChatChoice(Struct, frozen=True):
    """One of the answers of a request that did not stream."""

    index: int
    message: ChatMessageBody
    logprobs: ChatLogprobs | None
    finish_reason: str


class ChatCompletion(Struct, frozen=True):
    """The response of a chat request that did not stream."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    choices: tuple[ChatChoice, ...]
    usage: UsageBody


# -- plain completions ---------------------------------------------------------------------------


class TextChoice(Struct, frozen=True):
    """One answer, or a part of it."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: str | None = None


class TextCompletion(Struct, frozen=True):
    """The response of a plain completion, or one event of its stream: both have the same shape."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    choices: tuple[TextChoice, ...]
    usage: UsageBody | UnsetType | None = UNSET


# -- embeddings ----------------------------------------------------------------------------------


class EmbeddingItem(Struct, frozen=True):
    """The embedding of one input."""

    object: str
    index: int
    embedding: list[float] | str
    """Numbers, or the base64 of their float32, little-endian."""


class EmbeddingUsage(Struct, frozen=True):
    """What embedding cost, in tokens."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(Struct, frozen=True):
    """All embeddings of a request, in the order of its inputs."""

    object: str
    data: tuple[EmbeddingItem, ...]
    model: str
    usage: EmbeddingUsage
