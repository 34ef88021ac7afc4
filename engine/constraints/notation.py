"""Calls in notations of their own: Python's, and those of Gemma, whose strings stand between tokens."""

import json
import keyword
import re
from collections.abc import Sequence
from typing import Final, cast

from engine.constraints.errors import GrammarError
from engine.constraints.parts import Schema
from engine.constraints.rules import ANY_TEXT, Rules, kinds_of_string, one_of
from engine.constraints.tools import Tool

_WORD: Final = re.compile(r"\w+\Z")
_QUOTE: Final = '<|"|>'
_PLAIN_TEXT: Final = r"/[^\x00]*/"
_SAID_OTHERWISE: Final = {
    "allOf",
    "not",
    "if",
    "patternProperties",
    "prefixItems",
    "minProperties",
    "maxProperties",
}


def listed(rules: Rules, items: Sequence[tuple[str, bool]]) -> str:
    """Items in their order with commas between them; those that are not needed (False) may be left out."""
    after = rules.rule('""')
    first: list[str] = []
    for item, needed in reversed(items):
        here = f"{item} {after}"
        first = [here] if needed else [here, *first]
        follow = f'"," {here}'
        after = rules.rule(follow if needed else one_of([follow, after]))
    if not any(needed for _, needed in items):
        first.append('""')
    return rules.rule(one_of(first))


# -- Python --------------------------------------------------------------------------------------


def python_calls(rules: Rules, tools: Sequence[Tool]) -> str:
    """`<|tool_call_start|>[name(key=value, ...), ...]<|tool_call_end|>`; mlx-lm reads JSON's values there."""
    call = rules.rule(one_of(_python_call(rules, tool) for tool in tools))
    begin, end = rules.spelled("<|tool_call_start|>["), rules.spelled("]<|tool_call_end|>")
    return f"{begin} {call} (/, ?/ {call})* {end}"


def _python_call(rules: Rules, tool: Tool) -> str:
    names = [*tool.name.split("."), *(argument.name for argument in tool.arguments)]
    for name in names:
        if not name.isidentifier() or keyword.iskeyword(name):
            raise GrammarError(f"this model writes calls as Python does, where {name!r} can't be a name")
    given = [
        (
            f"{rules.spelled(f'{argument.name}=')} {rules.json(argument.schema, tool.parameters)}",
            argument.required,
        )
        for argument in tool.arguments
    ]
    return rules.rule(f'{rules.spelled(f"{tool.name}(")} {listed(rules, given)} ")"')


# -- Gemma ---------------------------------------------------------------------------------------


def gemma_calls(rules: Rules, tools: Sequence[Tool]) -> str:
    """`<|tool_call>call:name{key:value,...}<tool_call|>`: JSON with bare keys, strings between `<|"|>`."""
    begin, end = rules.spelled("<|tool_call>"), rules.spelled("<tool_call|>")
    calls = []
    for tool in tools:
        if not re.fullmatch(r"[\w-]+", tool.name):
            raise GrammarError(f"this model's syntax can't write a tool named {tool.name!r}")
        notation = Notation(rules, tool.parameters)
        calls.append(f"{rules.spelled(f'call:{tool.name}')} {notation.value(tool.parameters)}")
    call = rules.rule(f"{begin} {one_of(calls)} {end}")
    return f"{call}+"


class Notation:
    """Gemma's values, for the schemas of one tool. Some keywords can't be said in it: GrammarError."""

    def __init__(self, rules: Rules, root: Schema) -> None:
        self._rules = rules
        self._root = root
        self._known: dict[str, str] = {}

    def value(self, schema: Schema) -> str:
        if unsaid := sorted(_SAID_OTHERWISE & set(schema)):
            raise GrammarError(f"this model's own syntax for calls can't be held to {', '.join(unsaid)}")
        if isinstance(reference := schema.get("$ref"), str):
            return self._referred(reference)
        if "const" in schema:
            return self._exactly(schema["const"])
        if isinstance(values := schema.get("enum"), list):
            return one_of(self._exactly(value) for value in values)
        for key in ("anyOf", "oneOf"):
            if isinstance(options := schema.get(key), list):
                rest = {name: below for name, below in schema.items() if name != key}
                return one_of(self.value({**rest, **cast(Schema, option)}) for option in options)
        kinds = schema.get("type", ["string", "number", "boolean", "null", "array", "object"])
        if isinstance(kinds, list):
            if "type" not in schema and not schema:
                return self._anything()
            return one_of(self.value({**schema, "type": kind}) for kind in kinds)
        return self._typed(schema)

    def _typed(self, schema: Schema) -> str:
        match schema["type"]:
            case "string":
                return self._string([_PLAIN_TEXT, *kinds_of_string(schema)])
            case "array":
                return self._array(schema)
            case "object":
                return self._object(schema)
            case _:
                return self._rules.json(schema, {})

    def _string(self, kinds: Sequence[str]) -> str:
        text = self._rules.text("", kinds)
        quote = self._rules.spelled(_QUOTE)
        if self._rules.is_marked(_QUOTE):
            return f"{quote} {text} {quote}"
        return f"{quote} {self._rules.text(_QUOTE, kinds)}"

    def _array(self, schema: Schema) -> str:
        items = schema.get("items", {})
        item = self._rules.rule(self.value(cast(Schema, items) if isinstance(items, dict) else {}))
        least, most = schema.get("minItems", 0), schema.get("maxItems")
        if (
            not isinstance(least, int)
            or not isinstance(most, int | None)
            or (most is not None and most < least)
        ):
            raise GrammarError(
                "minItems and maxItems of an array must be whole numbers, the first not larger"
            )
        if most == 0:
            return '"[" "]"'
        more = f'("," {item}){{{max(least - 1, 0)},{"" if most is None else most - 1}}}'
        some = f"{item} {more}" if most != 1 else item
        return f'"[" ({some}){"" if least else "?"} "]"'

    def _object(self, schema: Schema) -> str:
        listed_ones, needed = schema.get("properties", {}), schema.get("required", [])
        if not isinstance(listed_ones, dict) or not isinstance(needed, list):
            raise GrammarError("properties must be an object, and required a list")
        if not listed_ones:
            below = schema.get("additionalProperties", True)
            pair = f"/\\w+:/ {self.value(below) if isinstance(below, dict) else self._anything()}"
            return '"{" "}"' if below is False else f'"{{" ({pair} ("," {pair})*)? "}}"'
        items = []
        for name, below in listed_ones.items():
            if not _WORD.match(name):
                raise GrammarError(f"this model's syntax can't write an argument named {name!r}")
            value = self._rules.rule(self.value(below if isinstance(below, dict) else {}))
            items.append((f"{self._rules.spelled(f'{name}:')} {value}", name in needed))
        return f'"{{" {listed(self._rules, items)} "}}"'

    def _referred(self, reference: str) -> str:
        if reference in self._known:
            return self._known[reference]
        name = self._known[reference] = self._rules.name()
        found: object = self._root
        for part in reference.removeprefix("#").strip("/").split("/") if reference != "#" else []:
            found = found.get(part) if isinstance(found, dict) else None
        if not isinstance(found, dict):
            raise GrammarError(f"{reference} leads nowhere")
        self._rules.define(name, self.value(found))
        return name

    def _exactly(self, value: object) -> str:
        if isinstance(value, str):
            quote = self._rules.spelled(_QUOTE)
            return f"{quote} {self._rules.spelled(value)} {quote}"
        if isinstance(value, list | dict) and value:
            raise GrammarError(
                "this model's own syntax for calls can't be held to a list or object that is given"
            )
        return self._rules.spelled(json.dumps(value))

    def _anything(self) -> str:
        """Any value, to any depth."""
        if "" not in self._known:
            name = self._known[""] = self._rules.name()
            kinds: list[Schema] = [
                {"type": kind} for kind in ("string", "number", "boolean", "null", "array", "object")
            ]
            self._rules.define(name, one_of(self.value(kind) for kind in kinds))
        return self._known[""]


def flat_calls(rules: Rules, tools: Sequence[Tool]) -> str:
    """`<start_function_call>call:name{key:value,...}<end_function_call>`, of FunctionGemma.

    Its parser splits at commas and ends at the first brace: no lists, no objects, no brace in a string."""
    begin, end = rules.spelled("<start_function_call>"), rules.spelled("<end_function_call>")
    calls = [_flat_call(rules, tool) for tool in tools]
    return f"({begin} {one_of(calls)} {end})+"


def _flat_call(rules: Rules, tool: Tool) -> str:
    items = []
    for argument in tool.arguments:
        if not _WORD.match(argument.name):
            raise GrammarError(f"this model's syntax can't write an argument named {argument.name!r}")
        value = one_of(_flat_values(rules, argument.name, argument.schema))
        items.append((f"{rules.spelled(f'{argument.name}:')} {value}", argument.required))
    return rules.rule(f'{rules.spelled(f"call:{tool.name}{{")} {listed(rules, items)} "}}"')


def _flat_values(rules: Rules, name: str, schema: Schema) -> list[str]:
    match schema.get("type"):
        case "string":
            quote = rules.spelled("<escape>")
            kinds = [ANY_TEXT, *kinds_of_string(schema)]
            if rules.is_marked("<escape>"):
                return [f"{quote} {rules.text('', kinds, without=['}'])} {quote}"]
            return [f"{quote} {rules.text('<escape>', kinds, without=['}'])}"]
        case "integer" | "number" | "boolean" | "null":
            return [rules.json(schema, {})]
        case list(kinds):
            return [way for kind in kinds for way in _flat_values(rules, name, {**schema, "type": kind})]
        case _ if isinstance(values := schema.get("enum"), list) and all(
            isinstance(value, str) for value in values
        ):
            return _flat_values(rules, name, {**schema, "type": "string"})
        case _ if isinstance(options := schema.get("anyOf"), list):
            return [way for option in options for way in _flat_values(rules, name, cast(Schema, option))]
        case _:
            raise GrammarError(
                f"this model's syntax for calls has no lists and objects, which `{name}` may be"
            )
