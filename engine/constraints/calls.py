"""Calls in a model's own syntax, as grammars: what mlx-lm's parser of that name reads back.

Names are those of `mlx_lm.tool_parsers`. A format in which arguments are JSON holds them to their schema
entirely. Where arguments are plain text between markers, `parameters.py` says what can't be held.
No format can carry a text that spells out its own end marker.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from engine.constraints.errors import GrammarError
from engine.constraints.notation import flat_calls, gemma_calls, python_calls
from engine.constraints.parameters import STYLES, parameter_calls
from engine.constraints.rules import Rules, one_of
from engine.constraints.schema import Schema
from engine.constraints.tools import Tool, tools_of
from engine.constraints.words import CallMarkers, Words

Writer = Callable[[Rules, Sequence[Tool]], str]
"""Writes rules for one call or several of any of the tools, and returns how an answer begins with them."""


def call_grammar(markers: CallMarkers, words: Words, definitions: Sequence[str], function: str) -> str:
    """In Lark's syntax. Raises GrammarError if the model's syntax or the tools don't allow it."""
    rules = Rules(words)
    tools = tools_of(definitions, function)
    if markers.parser in STYLES:
        return rules.written(parameter_calls(STYLES[markers.parser], rules, tools))
    writer = _WRITERS.get(markers.parser)
    if writer is None:
        raise GrammarError(
            f"how this model calls tools ({markers.parser}) is not known well enough to require it"
        )
    return rules.written(writer(rules, tools))


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


_WRITERS: Final[Mapping[str, Writer]] = {
    "json_tools": _json_calls,
    "mistral": _mistral_calls,
    "kimi_k2": _kimi_calls,
    "pythonic": python_calls,
    "gemma4": gemma_calls,
    "function_gemma": flat_calls,
}
