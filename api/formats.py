"""What an answer is to look like, in the words of OpenAI, vLLM and llama.cpp: from a body to a Format.

Whatever is asked for is kept to, also where OpenAI would only try (`strict: false`). Grammars are in Lark's
syntax or in GBNF, whichever it looks like, as with vLLM and llama.cpp. Whether a schema, an expression or a
grammar is right in itself, only the engine knows: it refuses what is not, and that becomes a 400 as well.
"""

import re
from collections.abc import Iterator, Sequence

import msgspec

from api.errors import ApiError, invalid
from api.schema import GenerationBody, JsonSchema, ResponseFormat, StructuredOutputs, shallow
from bus.messages.generation import Format, GrammarFormat, GrammarSyntax, JsonFormat, RegexFormat

MAX_CHOICES = 1000

_SPECIAL = frozenset("\\.+*?()|[]{}^$#&-~")
"""What Rust's `regex::escape` escapes."""


_GBNF = re.compile(r"^\s*[\w-]+\s*::=", re.MULTILINE)
"""A rule of GBNF; Lark's have a single colon."""

_OTHER_FIELDS = (
    *("structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar"),
    *("json_schema", "grammar"),
)


def format_of(body: GenerationBody) -> Format | None:
    """The one format that a body asks for; None: the answer is free. Raises ApiError 400."""
    asked = [*_openai(body.response_format), *_vllm(body.structured_outputs), *_older(body)]
    if len(asked) > 1:
        names = " and ".join(f"`{param}`" for param, _ in asked)
        raise invalid(f"An answer has one format; {names} ask for several.", asked[-1][0])
    return asked[0][1] if asked else None


def format_field(body: GenerationBody) -> str:
    """The field that a body asks for its format in; OpenAI's where it asks for none."""
    return next((name for name in _OTHER_FIELDS if getattr(body, name) is not None), "response_format")


# -- each family's words -------------------------------------------------------------------------


def _openai(asked: ResponseFormat | None) -> Iterator[tuple[str, Format]]:
    if asked is None or asked.type == "text":
        return
    match asked.type:
        case "json_object":
            schema = _schema(asked.schema, "response_format.schema") if asked.schema is not None else ""
            yield "response_format", JsonFormat(schema)
        case "json_schema":
            yield "response_format", _named(asked)
        case _:
            raise invalid("Use one of text, json_object, json_schema.", "response_format.type")


def _named(asked: ResponseFormat) -> JsonFormat:
    at = "response_format.json_schema"
    if asked.json_schema is None:
        raise invalid(f"Missing required field '{at}'.", at, "missing_required_parameter")
    if asked.json_schema.schema is None:
        raise invalid(f"Missing required field '{at}.schema'.", f"{at}.schema", "missing_required_parameter")
    return JsonFormat(_schema(asked.json_schema.schema, f"{at}.schema"), asked.json_schema.name)


def _vllm(asked: StructuredOutputs | None) -> Iterator[tuple[str, Format]]:
    if asked is None:
        return
    at = "structured_outputs"
    if asked.structural_tag is not None:
        raise _unserved("Structural tags are not served; use json, regex, choice or grammar.", at)
    if asked.json is not None:
        yield f"{at}.json", JsonFormat(_schema(asked.json, f"{at}.json"))
    if asked.json_object:
        yield f"{at}.json_object", JsonFormat()
    if asked.regex is not None:
        yield f"{at}.regex", RegexFormat(asked.regex)
    if asked.choice is not None:
        yield f"{at}.choice", _choice(asked.choice, f"{at}.choice")
    if asked.grammar is not None:
        yield f"{at}.grammar", _grammar(asked.grammar)


def _older(body: GenerationBody) -> Iterator[tuple[str, Format]]:
    """vLLM's `guided_…`, and llama.cpp's `json_schema` and `grammar`."""
    if body.guided_json is not None:
        yield "guided_json", JsonFormat(_schema(body.guided_json, "guided_json"))
    if body.guided_regex is not None:
        yield "guided_regex", RegexFormat(body.guided_regex)
    if body.guided_choice is not None:
        yield "guided_choice", _choice(body.guided_choice, "guided_choice")
    if body.guided_grammar is not None:
        yield "guided_grammar", _grammar(body.guided_grammar)
    if body.json_schema is not None:
        yield "json_schema", JsonFormat(_schema(body.json_schema, "json_schema"))
    if body.grammar:
        yield "grammar", _grammar(body.grammar)


# -- from a field's value to a format ------------------------------------------------------------


def _schema(schema: str | JsonSchema, param: str) -> str:
    """A schema's text, its keys in the order in which they were written."""
    if isinstance(schema, str):
        try:
            return _schema(msgspec.json.decode(schema, type=JsonSchema), param)
        except (msgspec.DecodeError, RecursionError) as error:
            raise invalid(f"A JSON schema is a JSON object: {error}.", param) from None
    if not shallow(schema):
        raise invalid("The schema is nested too deeply.", param)
    return msgspec.json.encode(schema).decode()


def _choice(texts: Sequence[str], param: str) -> RegexFormat:
    """One of these texts, and nothing else."""
    if not texts or not all(texts):
        raise invalid("Give one or more texts to choose from, none of them empty.", param)
    if len(texts) > MAX_CHOICES:
        raise invalid(f"At most {MAX_CHOICES} texts to choose from.", param)
    return RegexFormat("|".join(map(_literally, dict.fromkeys(texts))))


def _literally(text: str) -> str:
    """An expression for this text, in the syntax of Rust's `regex`."""
    return "".join(f"\\{letter}" if letter in _SPECIAL else letter for letter in text)


def _grammar(grammar: str) -> GrammarFormat:
    return GrammarFormat(grammar, GrammarSyntax.GBNF if _GBNF.search(grammar) else GrammarSyntax.LARK)


def _unserved(message: str, param: str) -> ApiError:
    return invalid(message, param, "unsupported_value")
