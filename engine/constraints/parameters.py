"""Calls whose arguments stand one by one between markers, as text: how each such format writes a value.

What a parser of mlx-lm makes of a text depends on the argument's declared type, so a value is written as that
parser reads it back. Not held, as plain text can't carry it: a string's `format`; with the parsers of
Qwen3-Coder, MiniMax and MiniCPM, the type of an argument that is given by reference, and with the first also
numbers and booleans of an argument without `type`: those arrive as strings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final, cast

from engine.constraints.errors import GrammarError
from engine.constraints.parts import Schema
from engine.constraints.rules import ANY_TEXT, TRIMMED_TEXT, Rules, kinds_of_string, one_of
from engine.constraints.tools import Argument, Tool

_NULL: Final = "/(?i:null)/"
_JSON_LIKE: Final = r'/\s*(["\[{](?s:.*)|-?[0-9](?s:.*)|true|false|null|NaN|-?Infinity)\s*/'
_CONTAINER: Final = r"/\s*[\[{](?s:.*)/"
_NUMBER: Final = r"/-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,15})?([eE][+-]?[0-9]{1,2})?/"
"""Within what a double holds: a parser that turns it into an integer fails on infinity."""
_INTEGER: Final = r"/-?(0|[1-9][0-9]{0,14})/"


class Untyped(Enum):
    """What a parser makes of a value whose schema has no single `type`."""

    JSON = auto()
    """It is read as JSON."""
    BY_OPTION = auto()
    """It is tried as each type that the schema names, strings last and without quotes."""
    TEXT = auto()
    """It is text, except objects, arrays and null; where `type` is a list, a literal of Python."""


@dataclass(frozen=True, slots=True)
class Style:
    """A format. `{}` stands for a name."""

    section: tuple[str, str]
    """Around all calls."""
    call: tuple[str, str]
    parameter: tuple[str, str]
    between_calls: str = ""
    after_parameter: str = ""
    bare: tuple[str, str] | None = None
    """Around the name of a function that is called without arguments, where that is written otherwise."""
    trimmed: bool = True
    """Space around a string is lost."""
    never: tuple[str, ...] = ()
    """Strings that would be read as something else."""
    quotes: bool = False
    """Such strings can be written as JSON's."""
    typed: bool = False
    """A parameter's marker says its type, in place of a second `{}`."""
    untyped: Untyped = Untyped.JSON
    starts: tuple[str, ...] = ()
    """What else may not stand in a string."""

    @property
    def ends(self) -> tuple[str, ...]:
        """The markers that end a parameter, a call or all of them."""
        closing = (self.parameter[1], self.call[1], self.section[1])
        return (*(line for text in closing for line in text.split("\n") if line), *self.starts)


_GLM = Style(
    section=("", ""),
    call=("<tool_call>{}", "</tool_call>"),
    parameter=("\n<arg_key>{}</arg_key>\n<arg_value>", "</arg_value>"),
    between_calls="\n",
)
_QWEN = Style(
    section=("", ""),
    call=("<tool_call>\n<function={}>\n", "</function>\n</tool_call>"),
    parameter=("<parameter={}>\n", "\n</parameter>"),
    between_calls="\n",
    after_parameter="\n",
    trimmed=False,
    never=(_NULL,),
    untyped=Untyped.TEXT,
)
_MINIMAX = Style(
    section=("<minimax:tool_call>\n", "</minimax:tool_call>"),
    call=('<invoke name="{}">\n', "</invoke>\n"),
    parameter=('<parameter name="{}">', "</parameter>"),
    after_parameter="\n",
    never=(_NULL,),
    untyped=Untyped.BY_OPTION,
)
_LONGCAT = Style(
    section=("", ""),
    call=("<longcat_tool_call>{}", "\n</longcat_tool_call>"),
    parameter=("\n<longcat_arg_key>{}</longcat_arg_key>\n<longcat_arg_value>", "</longcat_arg_value>"),
    between_calls="\n",
    bare=('<longcat_tool_call>{{"name": "{}", "arguments": {{}}}}', "\n</longcat_tool_call>"),
)

STYLES: Final[Mapping[str, Style]] = {
    "glm47": _GLM,
    "laguna": _GLM,
    "longcat": _LONGCAT,
    "qwen3_coder": _QWEN,
    "minimax_m2": _MINIMAX,
    "minicpm5": replace(
        _MINIMAX,
        section=("", ""),
        call=('<function name="{}">', "</function>"),
        parameter=('<param name="{}">', "</param>"),
        after_parameter="",
        between_calls="\n",
        starts=("<![CDATA[",),
    ),
    "muse_spark": Style(
        section=("<atem:function_calls>\n", "</atem:function_calls>"),
        call=('<atem:invoke name="{}">\n', "</atem:invoke>\n"),
        parameter=('<atem:parameter name="{}">', "</atem:parameter>"),
        after_parameter="\n",
        never=(_JSON_LIKE,),
        quotes=True,
    ),
    "kimi_k3": Style(
        section=("<|open|>tools<|sep|>", "<|close|>tools<|sep|>"),
        call=('<|open|>call tool="{}"', "<|close|>call<|sep|>"),
        parameter=('<|open|>argument key="{}" type="{}"<|sep|>', "<|close|>argument<|sep|>"),
        trimmed=False,
        typed=True,
    ),
}
"""By the name of mlx-lm's parser."""


def parameter_calls(style: Style, rules: Rules, tools: Sequence[Tool]) -> str:
    """Rules for one call or several."""
    call = rules.rule(one_of(_call(style, rules, tool) for tool in tools))
    between = rules.spelled(style.between_calls) if style.between_calls else ""
    begin, end = (rules.spelled(mark) if mark else "" for mark in style.section)
    return f"{begin} {call} ({between} {call})* {end}"


def _call(style: Style, rules: Rules, tool: Tool) -> str:
    head, end = style.call[0].format(tool.name), rules.spelled(style.call[1])
    begin = rules.spelled(head)
    if style.typed:
        begin = f'{begin} " index=\\"" /[0-9]{{1,3}}/ "\\"" {rules.spelled("<|sep|>")}'
    arguments = [(argument, _parameter(style, rules, tool, argument)) for argument in tool.arguments]
    given = " ".join(rule if argument.required else f"{rule}?" for argument, rule in arguments)
    if style.bare is None:
        return rules.rule(f"{begin} {given} {end}")
    ways = [f"{begin} {some} {end}" for some in _some(arguments)]
    if not any(argument.required for argument, _ in arguments):
        bare, bare_end = style.bare
        ways.append(f"{rules.spelled(bare.format(tool.name))} {rules.spelled(bare_end)}")
    return rules.rule(one_of(ways))


def _some(arguments: Sequence[tuple[Argument, str]]) -> list[str]:
    """All ways to give at least one argument, told apart by the first one that is given."""
    ways = []
    for place, (argument, rule) in enumerate(arguments):
        rest = (after if later.required else f"{after}?" for later, after in arguments[place + 1 :])
        ways.append(" ".join([rule, *rest]))
        if argument.required:
            break
    return ways


def _parameter(style: Style, rules: Rules, tool: Tool, argument: Argument) -> str:
    if any(character in argument.name for character in '<>"\n') or argument.name != argument.name.strip():
        raise GrammarError(f"this model's syntax can't write an argument named {argument.name!r}")
    after = rules.spelled(style.after_parameter) if style.after_parameter else ""
    head = style.parameter[0]
    ways = []
    for option in _options(argument.schema) if style.typed else [argument.schema]:
        filled = (
            head.format(_attribute(argument.name), _type_of(option))
            if style.typed
            else head.format(argument.name)
        )
        ways.append(f"{rules.spelled(filled)} {_value(style, rules, option, tool.parameters)} {after}")
    return rules.rule(one_of(ways))


def _attribute(name: str) -> str:
    return name.replace("&", "&amp;")


def _type_of(schema: Schema) -> str:
    kind = schema.get("type")
    return kind if isinstance(kind, str) else "object"


def _value(style: Style, rules: Rules, schema: Schema, root: Schema) -> str:
    """A value and the end of its parameter."""
    if isinstance(schema.get("type"), str):
        return one_of(_simple(style, rules, schema, root))
    match style.untyped:
        case Untyped.JSON:
            return _json(style, rules, schema, root)
        case Untyped.BY_OPTION:
            options = _options(schema)
            plain = [_simple(style, rules, option, root, beside=len(options) > 1) for option in options]
            return one_of(way for ways in plain for way in ways)
        case Untyped.TEXT:
            return one_of(_untyped_text(style, rules, schema, root))


def _simple(style: Style, rules: Rules, schema: Schema, root: Schema, beside: bool = False) -> list[str]:
    """The ways to write a value of one type; `beside`: other types are possible as well."""
    close = rules.spelled(style.parameter[1])
    bounds = set(schema) & {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
    bounded = bounds or set(schema) & {"enum", "const"}
    match schema.get("type"):
        case "string":
            text = _text(style, rules, schema, beside)
            quoted = style.quotes and not set(schema) & {"enum", "const"}
            return [text, _json(style, rules, schema, root)] if quoted else [text]
        case "integer" if not bounded:
            return [f"{_INTEGER} {close}"]
        case "number" if not bounded:
            return [f"{_NUMBER} {close}"]
        case _:
            return [_json(style, rules, schema, root)]


def _text(style: Style, rules: Rules, schema: Schema, beside: bool) -> str:
    kinds = [TRIMMED_TEXT if style.trimmed else ANY_TEXT, *kinds_of_string(schema)]
    never = [*style.never, _CONTAINER] if beside else style.never
    return rules.text(style.parameter[1], kinds, never)


def _json(style: Style, rules: Rules, schema: Schema, root: Schema) -> str:
    return f"{rules.json(schema, root)} {rules.spelled(style.parameter[1])}"


def _untyped_text(style: Style, rules: Rules, schema: Schema, root: Schema) -> list[str]:
    if isinstance(schema.get("type"), list):
        return [_literal(style, rules, option, root) for option in _options(schema)]
    ways = []
    for option in _options(schema):
        match option.get("type"):
            case "string":
                ways.append(_text(style, rules, option, beside=True))
            case "integer" | "number" | "boolean":
                pass
            case _:
                ways.append(_json(style, rules, option, root))
    return ways or [_json(style, rules, schema, root)]


def _literal(style: Style, rules: Rules, schema: Schema, root: Schema) -> str:
    """As Python writes it, which for most values is as JSON does."""
    if schema.get("type") == "boolean":
        return f'("True" | "False") {rules.spelled(style.parameter[1])}'
    return _json(style, rules, schema, root)


def _options(schema: Schema) -> list[Schema]:
    """The schemas of one type each of which a schema without a single `type` is made."""
    kinds = schema.get("type")
    if isinstance(kinds, str):
        return [schema]
    if isinstance(kinds, list):
        return [{**schema, "type": kind} for kind in kinds]
    for key in ("anyOf", "oneOf"):
        if isinstance(options := schema.get(key), list):
            besides = {name: value for name, value in schema.items() if name != key}
            parts = [cast(Schema, option) for option in options if isinstance(option, dict)]
            return [one for part in parts for one in _options({**besides, **part})]
    if isinstance(values := schema.get("enum", [schema["const"]] if "const" in schema else None), list):
        texts: list[object] = [value for value in values if isinstance(value, str)]
        others: list[object] = [value for value in values if not isinstance(value, str)]
        made: list[Schema] = [{"type": "string", "enum": texts}] if texts else []
        rest: list[Schema] = [{"enum": others}] if others else []
        return made + rest
    return [schema]
