"""Request bodies, decoded and range-checked by msgspec.

Every optional field may be null, which is the same as leaving it out. The generating routes ignore fields
that are not named here, among them those that OpenAI's clients send and that change nothing on one's own
machine: `user`, `metadata`, `store`, `service_tier`, `verbosity`, `prediction`, `prompt_cache_key`,
`prompt_cache_options`, `prompt_cache_retention`, `safety_identifier`, `ttl`, `draft_model`. So is `strict`
of a schema or a tool: whatever it says, what the answer is held to is always kept to.
"""

import re
from typing import Annotated, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

from api.errors import ApiError, invalid

INT32_MAX = 2**31 - 1
MAX_CHOICES = 32
MAX_TOP_LOGPROBS = 20
MAX_PRIORITY = 100
MAX_MESSAGES = 8192
"""Of a conversation. A hundred thousand small ones would hold up everybody else for seconds."""
MAX_PARTS = 1024
"""Of a message, and so many tools or calls."""
MAX_DEPTH = 64
"""Deepest nesting of what is handed on as it came: nobody's code downstream recurses further."""

Unit: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Penalty: TypeAlias = Annotated[float, Meta(ge=-2, le=2)]
RepetitionPenalty: TypeAlias = Annotated[float, Meta(gt=0, le=10)]
Count: TypeAlias = Annotated[int, Meta(ge=-1, le=INT32_MAX)]
"""-1: without limit."""
TopLogprobs: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)]
Name: TypeAlias = Annotated[str, Meta(min_length=1)]
JsonSchema: TypeAlias = dict[str, object]
"""A schema as its client wrote it; whether it can be kept to, the engine says."""
Priority: TypeAlias = Annotated[int, Meta(ge=-MAX_PRIORITY, le=MAX_PRIORITY)]
Pieces: TypeAlias = str | list[str | int | list[int]]
"""One text, several texts, one list of token ids, or several."""


class StreamOptions(Struct, frozen=True):
    """What a stream carries besides the answer."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class NamedSchema(Struct, frozen=True):
    """The schema of a `response_format`. `strict: false` is kept to as well: the answer always fits it."""

    name: Name
    schema: JsonSchema | None = None
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(Struct, frozen=True):
    """What an answer is to look like, in OpenAI's words."""

    type: str
    json_schema: NamedSchema | None = None
    schema: JsonSchema | None = None
    """With `json_object`, as llama.cpp takes it."""


class StructuredOutputs(Struct, frozen=True):
    """What an answer is to look like, in vLLM's words: exactly one of these."""

    json: str | JsonSchema | None = None
    json_object: bool | None = None
    regex: Name | None = None
    choice: list[str] | None = None
    grammar: Name | None = None
    structural_tag: object = None


class GenerationBody(Struct, frozen=True, kw_only=True):
    """What both generating routes take, OpenAI's fields first, then the usual local extensions."""

    model: Name
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Count | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Unit | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    n: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] | None = None

    top_k: Count | None = None
    min_p: Unit | None = None
    repetition_penalty: RepetitionPenalty | None = None
    repeat_penalty: RepetitionPenalty | None = None
    ignore_eos: bool | None = None
    min_tokens: Annotated[int, Meta(ge=0, le=INT32_MAX)] | None = None
    timeout: Annotated[float, Meta(gt=0, le=7 * 24 * 3600)] | None = None
    """Seconds for the whole request."""
    priority: Priority | None = None
    """Lower is earlier, as with vLLM."""

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: str | JsonSchema | None = None
    guided_regex: Name | None = None
    guided_choice: list[str] | None = None
    guided_grammar: Name | None = None
    """In Lark's syntax or in GBNF, as all grammars."""
    json_schema: JsonSchema | None = None
    grammar: str | None = None


class ContentPart(Struct, frozen=True):
    """A part of a message's content; only texts are served."""

    type: str
    text: str | None = None
    refusal: str | None = None


class CalledFunction(Struct, frozen=True):
    """The function of a call in a conversation's history."""

    name: str
    arguments: str = ""


class HistoryCall(Struct, frozen=True):
    """A tool call in a conversation's history."""

    id: str | None = None
    type: str | None = None
    function: CalledFunction | None = None


class MessageBody(Struct, frozen=True):
    """One turn of a conversation."""

    role: str
    content: str | Annotated[list[ContentPart], Meta(max_length=MAX_PARTS)] | None = None
    name: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: Annotated[list[HistoryCall], Meta(max_length=MAX_PARTS)] | None = None
    tool_call_id: str | None = None
    function_call: CalledFunction | None = None


class ToolFunction(Struct, frozen=True):
    """What a tool is called and what it takes (a JSON schema)."""

    name: Name
    description: str | None = None
    parameters: JsonSchema | None = None
    strict: bool | None = None


class ToolBody(Struct, frozen=True):
    """A tool that the model may call."""

    type: str
    function: ToolFunction | None = None


class NamedFunction(Struct, frozen=True):
    """A function by its name."""

    name: Name


class NamedTool(Struct, frozen=True):
    """A tool by its function's name."""

    type: str
    function: NamedFunction | None = None


class AllowedTools(Struct, frozen=True):
    """Those of the tools that may be called this time."""

    mode: Literal["auto", "required"]
    tools: list[NamedTool]


class ToolChoice(Struct, frozen=True):
    """A tool that has to be called, or a selection of them."""

    type: str
    function: NamedFunction | None = None
    allowed_tools: AllowedTools | None = None


class ReasoningBody(Struct, frozen=True):
    """How much to reason, in OpenRouter's words."""

    effort: str | None = None
    max_tokens: Count | None = None
    enabled: bool | None = None
    exclude: bool | None = None


class ThinkingBody(Struct, frozen=True):
    """Whether to reason, in the words of Anthropic and those who took them up."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Count | None = None


class ChatBody(GenerationBody, frozen=True, kw_only=True):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[MessageBody], Meta(min_length=1, max_length=MAX_MESSAGES)]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: TopLogprobs | None = None
    tools: Annotated[list[Raw], Meta(max_length=MAX_PARTS)] | None = None
    tool_choice: str | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    modalities: list[str] | None = None
    audio: dict[str, object] | None = None
    moderation: dict[str, object] | None = None
    web_search_options: dict[str, object] | None = None
    functions: list[Raw] | None = None
    """The old form of tools, which OpenAI still takes."""
    function_call: str | NamedFunction | None = None

    chat_template_kwargs: dict[str, object] | None = None
    enable_thinking: bool | None = None
    thinking: ThinkingBody | None = None
    thinking_budget: Count | None = None
    reasoning_budget: Count | None = None
    reasoning: ReasoningBody | None = None
    include_reasoning: bool | None = None


class CompletionBody(GenerationBody, frozen=True, kw_only=True):
    """`POST /v1/completions`."""

    prompt: Pieces
    logprobs: TopLogprobs | None = None
    echo: bool | None = None
    best_of: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] | None = None
    suffix: str | None = None


class EmbeddingBody(Struct, frozen=True, kw_only=True):
    """`POST /v1/embeddings`."""

    model: Name
    input: Pieces
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=INT32_MAX)] | None = None
    priority: Priority | None = None


def shallow(value: object, levels: int = MAX_DEPTH) -> bool:
    """Whether a decoded value is nested no deeper than so many levels."""
    match value:
        case dict():
            return levels > 0 and all(shallow(inner, levels - 1) for inner in value.values())
        case list():
            return levels > 0 and all(shallow(inner, levels - 1) for inner in value)
        case _:
            return True


BodyT = TypeVar("BodyT", bound=Struct)

_PLACE = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>.*?)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"contains unknown field `(?P<field>[^`]*)`")
_MISSING = re.compile(r"missing required field `(?P<field>\w+)`")


def decode(raw: bytes | Raw, body: type[BodyT], at: str = "") -> BodyT:
    """The checked body; `at` is where in the whole body it stands.

    Raises ApiError 400, with the field to blame, when it is not UTF-8, not JSON, or not of that shape.
    """
    try:
        str(raw, "utf-8")
        return msgspec.json.decode(raw, type=body)
    except msgspec.ValidationError as error:
        raise _wrong_shape(str(error), at) from None
    except UnicodeDecodeError:
        raise invalid("The body is not UTF-8.", code="invalid_json") from None
    except RecursionError:
        raise invalid("The body is nested too deeply.", at or None, "invalid_json") from None
    except msgspec.DecodeError as error:
        raise invalid(f"The body is not JSON: {error}.", code="invalid_json") from None


def _wrong_shape(text: str, at: str) -> ApiError:
    """msgspec's "Expected `int`, got `str` - at `$.n`" as an error of the field `n`."""
    found = _PLACE.match(text)
    what, path = (found["what"], found["path"] or "") if found else (text, "")
    missing, unknown = _MISSING.search(what), _UNKNOWN.search(what)
    named = missing or unknown
    parts = [at, path.replace("[...]", "").removeprefix("."), named["field"] if named else ""]
    param = ".".join(part for part in parts if part)
    if unknown:
        return invalid(f"There is no field '{param}' here.", param, "unknown_parameter")
    if missing:
        return invalid(f"Missing required field '{param}'.", param, "missing_required_parameter")
    return invalid(f"Invalid '{param or 'body'}': {what[:1].lower()}{what[1:]}.", param or None)
