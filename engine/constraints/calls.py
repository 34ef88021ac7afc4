"""Calls in a model's own syntax, as grammars: what mlx-lm's parser of that name reads back.

Names are those of `mlx_lm.tool_parsers`. A format in which arguments are JSON holds them to their schema
entirely. Where arguments are plain text between markers, `parameters.py` says what can't be held.
No string spells out a marker that ends a call, unless the schema says what it is, or nothing at all. A number
too large for a double is infinite to the parser.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from engine.constraints.errors import GrammarError
from engine.constraints.notation import flat_calls, gemma_calls, python_calls
from engine.constraints.parameters import STYLES, parameter_calls
from engine.constraints.parts import Schema
from engine.constraints.rules import Rules, one_of
from engine.constraints.tools import Tool, tools_of
from engine.constraints.words import Words
from engine.text.markers import CallMarkers

Writer = Callable[[Rules, Sequence[Tool]], str]
"""Writes rules for one call or several of any of the tools, and returns how an answer begins with them."""


def call_grammar(markers: CallMarkers, words: Words, definitions: Sequence[str], function: str) -> str:
    """In Lark's syntax. Raises GrammarError if the model's syntax or the tools don't allow it."""
    tools = tools_of(definitions, function)
    if (style := STYLES.get(markers.parser)) is not None:
        rules = Rules(words, style.ends)
        return rules.written(parameter_calls(style, rules, tools))
    if markers.parser not in _WRITERS:
        raise GrammarError(
            f"how this model calls tools ({markers.parser}) is not known: it can't be required"
        )
    write, ends = _WRITERS[markers.parser]
    rules = Rules(words, ends)
    return rules.written(write(rules, tools))


def syntax_of(parser: str) -> str:
    """All the markers of a format, one after another."""
    if (style := STYLES.get(parser)) is not None:
        return "".join((*style.section, *style.call, *style.parameter))
    return "".join(_WRITERS[parser][1]) if parser in _WRITERS else ""


def _json_calls(rules: Rules, tools: Sequence[Tool]) -> str:
    begin, end = rules.spelled("<tool_call>\n"), rules.spelled("\n</tool_call>")
    call = rules.rule(f"{begin} {one_of(_named_json(rules, tool) for tool in tools)} {end}")
    return f'{call} ("\\n" {call})*'


def _named_json(rules: Rules, tool: Tool) -> str:
    """A call as one JSON object."""
    return rules.json(_call_schema(tool), tool.parameters)


def _call_schema(tool: Tool) -> Schema:
    below = {key: value for key, value in tool.parameters.items() if key not in ("$defs", "definitions")}
    return {
        "type": "object",
        "properties": {"name": {"const": tool.name}, "arguments": below},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _mistral_calls(rules: Rules, tools: Sequence[Tool]) -> str:
    """`[TOOL_CALLS]name[ARGS]{...}`, repeated, where there is a token for it; else a JSON list."""
    begin = rules.spelled("[TOOL_CALLS]")
    if rules.is_marked("[ARGS]"):
        calls = [
            f"{rules.spelled(f'{tool.name}[ARGS]')} {rules.json(tool.parameters, tool.parameters)}"
            for tool in tools
        ]
        return f"({begin} {one_of(calls)})+"
    call = rules.rule(one_of(_named_json(rules, tool) for tool in tools))
    return f'{begin} /[ ]?/ "[" {call} (/,[ ]?/ {call})* "]"'


def _kimi_calls(rules: Rules, tools: Sequence[Tool]) -> str:
    calls = [
        f"{rules.spelled(f'<|tool_call_begin|>functions.{tool.name}:')} /[0-9]{{1,3}}/ "
        f"{rules.spelled('<|tool_call_argument_begin|>')} {rules.json(tool.parameters, tool.parameters)}"
        for tool in tools
    ]
    call = rules.rule(f"{one_of(calls)} {rules.spelled('<|tool_call_end|>')}")
    begin, end = "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"
    return f"{rules.spelled(begin)} {call}+ {rules.spelled(end)}"


_WRITERS: Final[Mapping[str, tuple[Writer, tuple[str, ...]]]] = {
    "json_tools": (_json_calls, ("</tool_call>",)),
    "mistral": (_mistral_calls, ()),
    "kimi_k2": (
        _kimi_calls,
        (
            "<|tool_call_end|>",
            "<|tool_calls_section_end|>",
            "<|tool_call_argument_begin|>",
            "<|tool_call_begin|>",
        ),
    ),
    "pythonic": (python_calls, ("<|tool_call_end|>",)),
    "gemma4": (gemma_calls, ('<|"|>', "<tool_call|>")),
    "function_gemma": (flat_calls, ("<escape>", "<end_function_call>")),
}
"""And the markers that end a call or a part of it."""
