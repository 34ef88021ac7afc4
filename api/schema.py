"""Request bodies, decoded and range-checked by msgspec.

Every optional field may be null, which is the same as leaving it out. The generating routes ignore fields
that are not named here, among them those that OpenAI's clients send and that change nothing on one's own
machine: `user`, `metadata`, `store`, `service_tier`, `verbosity`, `prediction`, `prompt_cache_key`,
`prompt_cache_options`, `prompt_cache_retention`, `safety_identifier`, `ttl`, `draft_model`.
"""

import re
from typing import Annotated, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

from api.errors import ApiError, invalid

INT32_MAX = 2**31 - 1
MAX_CHOICES = 32
MAX_TOP_LOGPROBS = 20
MAX_REPLICAS = 64

Unit: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Penalty: TypeAlias = Annotated[float, Meta(ge=-2, le=2)]
RepetitionPenalty: TypeAlias = Annotated[float, Meta(gt=0, le=10)]
Count: TypeAlias = Annotated[int, Meta(ge=-1, le=INT32_MAX)]
"""-1: without limit."""
Several: TypeAlias = Annotated[int, Meta(ge=1, le=100_000)]
"""Nodes, stages or layers."""
TopLogprobs: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)]


class StreamOptions(Struct, frozen=True):
    """What a stream carries besides the answer."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class GenerationBody(Struct, frozen=True, kw_only=True):
    """What both generating routes take, OpenAI's fields first, then the usual local extensions."""

    model: Annotated[str, Meta(min_length=1)]
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
    min_tokens: Annotated[int, Meta(ge=0)] | None = None
    timeout: Annotated[float, Meta(gt=0, le=7 * 24 * 3600)] | None = None
    """Seconds for the whole request."""


class PlacementBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/instances`: what is left out is chosen, so that a misspelt field has to be refused."""

    model: Annotated[str, Meta(min_length=1)]
    sharding: str | None = None
    interconnect: str | None = None
    nodes: list[str] | None = None
    """Names or ids, in rank order."""
    layers: list[Several] | None = None
    """Of each stage."""
    stages: Several | None = None
    tensor: Several | None = None
    """Ranks per stage."""
    context: Annotated[int, Meta(ge=1, le=INT32_MAX)] | None = None
    replicas: Annotated[int, Meta(ge=1, le=MAX_REPLICAS)] | None = None
    dry_run: bool | None = None


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
    content: str | list[ContentPart] | None = None
    name: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[HistoryCall] | None = None
    tool_call_id: str | None = None
    function_call: CalledFunction | None = None


class ToolFunction(Struct, frozen=True):
    """What a tool is called and what it takes (a JSON schema)."""

    name: Annotated[str, Meta(min_length=1)]
    description: str | None = None
    parameters: dict[str, object] | None = None


class ToolBody(Struct, frozen=True):
    """A tool that the model may call."""

    type: str
    function: ToolFunction | None = None


class Typed(Struct, frozen=True):
    """Any object that says what it is."""

    type: str


class ChatBody(GenerationBody, frozen=True, kw_only=True):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[MessageBody], Meta(min_length=1)]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: TopLogprobs | None = None
    tools: list[Raw] | None = None
    tool_choice: str | dict[str, object] | None = None
    parallel_tool_calls: bool | None = None
    response_format: Typed | None = None
    reasoning_effort: str | None = None
    modalities: list[str] | None = None
    audio: dict[str, object] | None = None
    moderation: dict[str, object] | None = None
    web_search_options: dict[str, object] | None = None
    functions: list[Raw] | None = None
    function_call: str | dict[str, object] | None = None

    chat_template_kwargs: dict[str, object] | None = None
    enable_thinking: bool | None = None


class CompletionBody(GenerationBody, frozen=True, kw_only=True):
    """`POST /v1/completions`."""

    prompt: str | list[str | int | list[int]]
    logprobs: TopLogprobs | None = None
    echo: bool | None = None
    best_of: int | None = None
    suffix: str | None = None


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
