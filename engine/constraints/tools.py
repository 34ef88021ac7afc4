"""The tools that a request offers, as grammars see them."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

from engine.constraints.errors import GrammarError
from engine.constraints.parts import Schema, mapped, schemas_in
from engine.constraints.schema import prepared

_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}\Z")


@dataclass(frozen=True, slots=True)
class Tool:
    """A function and what it takes."""

    name: str
    parameters: Schema
    """Of its arguments, an object that has no others than those described."""

    @property
    def arguments(self) -> tuple["Argument", ...]:
        """One by one, for models that write them so. Raises GrammarError if they aren't listed."""
        whole = set(self.parameters) - {
            "title",
            "description",
            "$schema",
            "$defs",
            "definitions",
            "x-guidance",
        }
        listed = self.parameters.get("properties", {})
        if not isinstance(listed, dict) or whole - {"type", "properties", "required", "additionalProperties"}:
            raise GrammarError(
                f"the parameters of {self.name} must be an object's properties, one by one: this model's "
                "syntax has no other way to write them"
            )
        required = self.parameters.get("required", [])
        needed = required if isinstance(required, list) else []
        return tuple(
            Argument(str(name), schema if isinstance(schema, dict) else {}, name in needed)
            for name, schema in listed.items()
        )


@dataclass(frozen=True, slots=True)
class Argument:
    """One of a tool's."""

    name: str
    schema: Schema
    required: bool


def tools_of(definitions: Sequence[str], function: str) -> list[Tool]:
    """Those that may be called: the one named, or all. Raises GrammarError."""
    tools = [_tool(definition) for definition in definitions]
    wanted = [tool for tool in tools if function in ("", tool.name)]
    if not tools:
        raise GrammarError("a call is required, and no tool is offered")
    if not wanted:
        offered = ", ".join(tool.name for tool in tools)
        raise GrammarError(f"the tool {function} is not among those offered: {offered}")
    return wanted


def _tool(definition: str) -> Tool:
    try:
        read = json.loads(definition)
        function = cast("dict[str, object]", read.get("function", read))
        name = function["name"]
    except (ValueError, RecursionError, AttributeError, KeyError) as error:
        raise GrammarError(f"a tool's definition can't be read: {error}") from error
    if not isinstance(name, str) or not _NAME.match(name):
        raise GrammarError(
            f"{json.dumps(name)[:100]} can't be a tool's name: letters, digits, `_`, `-` and `.`"
        )
    parameters = prepared(function.get("parameters") or {"type": "object", "properties": {}})
    del parameters["x-guidance"]
    parameters.setdefault("type", "object")
    return Tool(name, _closed(parameters))


def _closed(parameters: Schema) -> Schema:
    """Without arguments and fields that nobody described: a model that has to call invents none.

    Where schemas are combined, none of them knows all fields, and they stay as they are.
    """
    combined = {"allOf", "anyOf", "oneOf", "$ref"}
    if any(
        "allOf" in part or ("properties" in part and combined & set(part)) for part in schemas_in(parameters)
    ):
        return parameters
    return mapped(parameters, _close)


def _close(schema: Schema) -> Schema:
    open_ended = {"additionalProperties", "patternProperties"} & set(schema)
    return schema if open_ended or "properties" not in schema else {**schema, "additionalProperties": False}
