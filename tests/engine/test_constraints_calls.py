"""A model without sense that has to call a tool calls it properly, in whatever syntax its parser reads."""

import importlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import pytest
from jsonschema import Draft202012Validator

from bus.messages.generation import CallFormat, JsonFormat
from engine.constraints.errors import GrammarError
from engine.constraints.grammars import Grammars
from engine.text.markers import CallMarkers
from engine.text.reply import Channel, Segment
from tests.engine.constrained import FakeSource, answers

SEEDS = range(4)

TOKENS: dict[str, tuple[str, ...]] = {
    "json_tools": ("<tool_call>", "</tool_call>"),
    "qwen3_coder": ("<tool_call>", "</tool_call>"),
    "glm47": ("<tool_call>", "</tool_call>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"),
    "laguna": ("<tool_call>", "</tool_call>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"),
    "longcat": (
        *("<longcat_tool_call>", "</longcat_tool_call>", "<longcat_arg_key>", "</longcat_arg_key>"),
        *("<longcat_arg_value>", "</longcat_arg_value>"),
    ),
    "minimax_m2": ("<minimax:tool_call>", "</minimax:tool_call>"),
    "minicpm5": (),
    "muse_spark": (),
    "mistral": ("[TOOL_CALLS]", "[ARGS]"),
    "kimi_k2": (
        *("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>", "<|tool_call_begin|>"),
        *("<|tool_call_argument_begin|>", "<|tool_call_end|>"),
    ),
    "kimi_k3": ("<|open|>", "<|close|>", "<|sep|>"),
    "pythonic": ("<|tool_call_start|>", "<|tool_call_end|>"),
    "gemma4": ("<|tool_call>", "<tool_call|>", '<|"|>'),
    "function_gemma": ("<start_function_call>", "<end_function_call>", "<escape>"),
}
"""What mlx-lm's parsers read, and which of its markers are one token in the models that write it."""

CLOSES: dict[str, tuple[str, ...]] = {
    "qwen3_coder": ("\n</parameter>", "\n</function>\n</tool_call>", "</tool_call>"),
    "minimax_m2": ("</parameter>", "</invoke>\n</minimax:tool_call>"),
    "minicpm5": ("</param>", "</function>"),
    "muse_spark": ("</atem:parameter>", "</atem:invoke>\n</atem:function_calls>", "</atem:function_calls>"),
    "kimi_k3": ("<|close|>argument<|sep|>", "<|close|>call<|sep|><|close|>tools", "<|close|>tools<|sep|>"),
    "glm47": ("</arg_value>", "</tool_call>"),
    "laguna": ("</arg_value>", "</tool_call>"),
    "longcat": ("</longcat_arg_value>", "\n</longcat_tool_call>"),
    "gemma4": ('<|"|>', "<tool_call|>"),
}
"""What ends texts and calls, which nobody hits upon by chance."""

END = Segment(Channel.CONTENT, "")

NESTED = [parser for parser in TOKENS if parser != "function_gemma"]


class _Parser(Protocol):
    tool_call_start: str
    tool_call_end: str
    parse_tool_call: Callable[[str, list[object]], object]


def parser_of(name: str) -> _Parser:
    return cast(_Parser, importlib.import_module(f"mlx_lm.tool_parsers.{name}"))


def source_of(name: str, tokens: Sequence[str] | None = None) -> FakeSource:
    parser = parser_of(name)
    markers = CallMarkers(name, parser.tool_call_start, parser.tool_call_end)
    return FakeSource(tokens=TOKENS[name] if tokens is None else tokens, call_markers=markers)


def tool(name: str, properties: object = None, required: Sequence[str] = (), **more: object) -> str:
    parameters = {"type": "object", "properties": properties or {}, "required": list(required), **more}
    return json.dumps({"type": "function", "function": {"name": name, "parameters": parameters}})


@dataclass(frozen=True)
class Call:
    name: str
    arguments: dict[str, object]


def read(source: FakeSource, text: str, tools: Sequence[str]) -> tuple[list[Call], str]:
    """The calls of an answer and what else it says, as mlx-lm reads it."""
    assert source.call_markers is not None
    parse = parser_of(source.call_markers.parser).parse_tool_call
    definitions = [json.loads(definition) for definition in tools]
    splitter, calls, content, inner = source.splitter(True, False), list[Call](), "", ""
    for segment in [*splitter.split(text), Segment(splitter.channel, splitter.flush()), END]:
        if segment.channel is Channel.TOOL:
            inner += segment.text
            continue
        content += segment.text
        if inner:
            found, inner = parse(inner, definitions), ""
            listed = cast("list[dict[str, object]]", found if isinstance(found, list) else [found])
            calls += [Call(str(call["name"]), _arguments(call["arguments"])) for call in listed]
    return calls, content


def _arguments(found: object) -> dict[str, object]:
    """As they reach a client, in JSON."""
    return cast("dict[str, object]", json.loads(json.dumps(found, ensure_ascii=False)))


def check(source: FakeSource, text: str, tools: Sequence[str]) -> list[Call]:
    """Every call is of an offered tool, with arguments that it allows, and nothing else is said."""
    calls, content = read(source, text, tools)
    assert calls, text
    assert not content.strip(), (text, content)
    parameters = {
        (found := json.loads(definition)["function"])["name"]: found["parameters"] for definition in tools
    }
    for call in calls:
        errors = list(Draft202012Validator(parameters[call.name]).iter_errors(call.arguments))
        assert not errors, (text, call, errors)
    return calls


FLAT = [
    tool("now"),
    tool("weather.of", {"city": {"type": "string"}, "days": {"type": "integer"}}, ["city"]),
    tool(
        "set_light",
        {
            "on": {"type": "boolean"},
            "level": {"type": "number", "minimum": 0, "maximum": 1},
            "colour": {"type": "string", "enum": ["red", "warm white"]},
        },
        ["on", "colour"],
    ),
]
NO_DOTS = [tool("now"), tool("weather_of", {"city": {"type": "string"}}, ["city"]), FLAT[2]]
DEEP = [
    tool(
        "plan",
        {
            "name": {"type": "string", "minLength": 2, "maxLength": 12},
            "code": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]+$"},
            "amount": {"type": "number"},
            "steps": {
                "type": "array",
                "items": {"type": "object", "properties": {"do": {"type": "string"}}, "required": ["do"]},
                "minItems": 1,
                "maxItems": 2,
            },
            "note": {"type": ["string", "null"]},
        },
        ["name", "code", "amount", "steps"],
        additionalProperties=False,
    )
]
SHARED = [
    tool(
        "move",
        {"to": {"$ref": "#/$defs/point"}},
        ["to"],
        **{
            "$defs": {
                "point": {
                    "type": "object",
                    "properties": {"x": {"type": "integer"}, "next": {"$ref": "#/$defs/point"}},
                    "required": ["x"],
                    "additionalProperties": False,
                }
            }
        },
    )
]


def said(source: FakeSource, format: CallFormat, tools: Sequence[str], seeds: Sequence[int]) -> list[str]:
    assert source.call_markers is not None
    closes = CLOSES.get(source.call_markers.parser, ())
    return answers(Grammars(source), format, tools, seeds, closes)


def test_every_parser_of_mlx_lm_is_known() -> None:
    folder = importlib.import_module("mlx_lm.tool_parsers")
    names = {path.stem for path in __import__("pathlib").Path(folder.__path__[0]).glob("[a-z]*.py")}
    assert names == set(TOKENS)


@pytest.mark.parametrize("name", TOKENS)
def test_a_model_that_must_call_calls_one_of_the_tools(name: str) -> None:
    tools = NO_DOTS if name in ("mistral", "gemma4", "function_gemma") else FLAT
    source = source_of(name)
    called = set()
    for text in said(source, CallFormat(), tools, SEEDS):
        called |= {call.name for call in check(source, text, tools)}
    assert len(called) > 1


@pytest.mark.parametrize("name", NESTED)
def test_arguments_within_arguments_are_held_to_their_schemas(name: str) -> None:
    source = source_of(name)
    for text in said(source, CallFormat(), DEEP, SEEDS):
        check(source, text, DEEP)


@pytest.mark.parametrize("name", [name for name in NESTED if name not in ("minimax_m2", "minicpm5")])
def test_arguments_may_refer_to_shared_schemas(name: str) -> None:
    source = source_of(name)
    for text in said(source, CallFormat(), SHARED, SEEDS):
        check(source, text, SHARED)


@pytest.mark.parametrize("name", NESTED)
def test_markers_that_are_spelled_in_letters_are_written_as_well(name: str) -> None:
    source = source_of(name, tokens=())
    for text in said(source, CallFormat(), NO_DOTS, range(3)):
        check(source, text, NO_DOTS)


@pytest.mark.parametrize("name", TOKENS)
def test_only_the_tool_that_is_named_is_called(name: str) -> None:
    source = source_of(name)
    for text in said(source, CallFormat("set_light"), NO_DOTS, range(2)):
        assert {call.name for call in check(source, text, NO_DOTS)} == {"set_light"}


def test_an_answer_in_a_format_may_be_a_call_instead_where_tools_are_offered() -> None:
    source = source_of("json_tools")
    kinds = set()
    for text in answers(Grammars(source), JsonFormat('{"const": "seven"}'), NO_DOTS, range(8)):
        if text == '"seven"':
            kinds.add(Channel.CONTENT)
        else:
            check(source, text, NO_DOTS)
            kinds.add(Channel.TOOL)
    assert kinds == {Channel.CONTENT, Channel.TOOL}


def test_what_a_syntax_cannot_write_is_refused_with_the_reason() -> None:
    def reason(parser: str, *tools: str, function: str = "") -> str:
        with pytest.raises(GrammarError) as caught:
            Grammars(source_of(parser)).check(CallFormat(function), tools)
        return str(caught.value)

    assert "`steps`" in reason("function_gemma", *DEEP)
    assert "'class'" in reason("pythonic", tool("f", {"class": {"type": "string"}}))
    assert "'a b'" in reason("gemma4", tool("f", {"a b": {"type": "string"}}))
    assert "allOf" in reason("gemma4", tool("f", {"a": {"allOf": [{"type": "string"}]}}))
    assert "one by one" in reason("glm47", tool("f", patternProperties={"^x": {}}))
    assert "not among those offered: now" in reason("json_tools", FLAT[0], function="then")
    assert "no tool is offered" in reason("json_tools")
    assert "name" in reason("json_tools", tool("two words"))
    assert "can't be read" in reason("json_tools", "{")
    with pytest.raises(GrammarError, match="does not call tools"):
        Grammars(FakeSource()).check(CallFormat(), FLAT)
