"""What answers are held to in a soak, as a request asks for it and as an answer is checked: pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import msgspec
from jsonschema import Draft202012Validator

Schema = dict[str, object]

PLACE: Schema = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "size": {"type": "integer", "minimum": 0, "maximum": 999},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "maxItems": 3},
    },
    "required": ["name", "size", "tags"],
    "additionalProperties": False,
}
ROWS: Schema = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}, "note": {"type": ["string", "null"], "maxLength": 8}},
        "required": ["ok", "note"],
        "additionalProperties": False,
    },
    "minItems": 2,
    "maxItems": 4,
}
WEATHER: Schema = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 10},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
CODE = "[A-Z]{2}-[0-9]{3}(, [A-Z]{2}-[0-9]{3}){1,4}"
GRAMMAR = 'start: item ("; " item)~1..3\nitem: "take" | "leave" | NUMBER\nNUMBER: /[1-9][0-9]/\n'
SENTENCE = r"(take|leave|[1-9][0-9])(; (take|leave|[1-9][0-9])){1,3}"

TOOL = {
    "type": "function",
    "function": {"name": "get_weather", "description": "The weather of some days.", "parameters": WEATHER},
}


OTHER_TOOL = {
    "type": "function",
    "function": {"name": "tell_time", "description": "What time it is.", "parameters": {"type": "object"}},
}
CHOICES = ["red", "dark red", "green", "blue-green"]


class Form(Enum):
    """A format, as a request has it in its body."""

    FREE = "free"
    PLACE = "schema: an object"
    ROWS = "schema: an array"
    REGEX = "regular expression"
    GRAMMAR = "grammar"
    CHOICE = "one of several"
    OBJECT = "any JSON object"
    CALL = "required tool call"
    NAMED = "named tool call"

    @property
    def fields(self) -> dict[str, object]:
        match self:
            case Form.FREE:
                return {}
            case Form.PLACE:
                return _schema("place", PLACE)
            case Form.ROWS:
                return _schema("rows", ROWS)
            case Form.REGEX:
                return {"structured_outputs": {"regex": CODE}}
            case Form.GRAMMAR:
                return {"structured_outputs": {"grammar": GRAMMAR}}
            case Form.CHOICE:
                return {"structured_outputs": {"choice": CHOICES}}
            case Form.OBJECT:
                return {"response_format": {"type": "json_object"}}
            case Form.CALL:
                return {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False}
            case Form.NAMED:
                named = {"type": "function", "function": {"name": "get_weather"}}
                return {"tools": [TOOL, OTHER_TOOL], "tool_choice": named, "parallel_tool_calls": False}

    @property
    def ends(self) -> bool:
        """Whether it is bound to come to an end."""
        return self not in (Form.FREE, Form.OBJECT)


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call of an answer."""

    name: str
    arguments: str


def wrong(form: Form, text: str, calls: Sequence[Call]) -> str:
    """Why a whole answer is not what it had to be; empty: it is."""
    match form:
        case Form.FREE:
            return ""
        case Form.PLACE:
            return _against(PLACE, text)
        case Form.ROWS:
            return _against(ROWS, text)
        case Form.REGEX:
            return _matched(CODE, text)
        case Form.GRAMMAR:
            return _matched(SENTENCE, text)
        case Form.CHOICE:
            return "" if text in CHOICES else f"{text!r} is none of {CHOICES}"
        case Form.OBJECT:
            return _against({"type": "object"}, text)
        case Form.CALL | Form.NAMED:
            if [call.name for call in calls] != ["get_weather"]:
                return f"calls {[call.name for call in calls]} instead of get_weather once, and says {text!r}"
            return _against(WEATHER, calls[0].arguments)


def _schema(name: str, schema: Schema) -> dict[str, object]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": name, "schema": schema}}}


def _against(schema: Schema, text: str) -> str:
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        return f"{text!r} is no JSON: {error}"
    errors = [str(error.message) for error in Draft202012Validator(schema).iter_errors(value)]
    return f"{text!r}: {'; '.join(errors)}" if errors else ""


def _matched(pattern: str, text: str) -> str:
    return "" if re.fullmatch(pattern, text) else f"{text!r} does not match {pattern}"
