"""Calls in every form that mlx-lm reads, written as its models' templates write them."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from engine.tools.calls import Begun, Done, More, Piece
from engine.tools.formats import Parser, ToolFormat, tool_format

Arguments = dict[str, object]
Written = tuple[str, Arguments]
"""A call: its name and arguments."""

TOOL = json.dumps(
    {
        "type": "function",
        "function": {
            "name": "look_up",
            "parameters": {
                "type": "object",
                "properties": {
                    "town": {"type": "string"},
                    "days": {"type": "integer"},
                    "exact": {"type": "boolean"},
                    "where": {"type": "object"},
                    "among": {"type": "array"},
                },
            },
        },
    }
)


class _Module(Protocol):
    parse_tool_call: Parser
    tool_call_start: str
    tool_call_end: str


@dataclass(frozen=True)
class Form:
    """A parser of mlx-lm, and how its calls are written."""

    parser: str
    write: Callable[[Sequence[Written]], str]
    several: bool = True
    """More than one call may stand between a pair of markers."""
    strict: bool = True
    """Strings may hold anything; else no character that the form itself uses."""

    def format(self) -> ToolFormat:
        module = cast(_Module, importlib.import_module(f"mlx_lm.tool_parsers.{self.parser}"))
        return tool_format(module.parse_tool_call, module.tool_call_start, module.tool_call_end, [TOOL])


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _json(calls: Sequence[Written]) -> str:
    written = [json.dumps({"name": name, "arguments": arguments}) for name, arguments in calls]
    return f"\n{written[0]}\n" if len(written) == 1 else f"[{', '.join(written)}]"


def _mistral(calls: Sequence[Written]) -> str:
    return "[TOOL_CALLS]".join(f"{name}[ARGS]{json.dumps(arguments)}" for name, arguments in calls)


def _kimi_k2(calls: Sequence[Written]) -> str:
    return "".join(
        f"<|tool_call_begin|>functions.{name}:{number}<|tool_call_argument_begin|>{json.dumps(arguments)}"
        "<|tool_call_end|>"
        for number, (name, arguments) in enumerate(calls)
    )


def _pairs(key: str, value: str) -> Callable[[Sequence[Written]], str]:
    def write(calls: Sequence[Written]) -> str:
        [(name, arguments)] = calls
        return f"{name}\n" + "".join(
            f"<{key}>{each}</{key}>\n<{value}>{_text(arguments[each])}</{value}>\n" for each in arguments
        )

    return write


def _elements(call: str, argument: str, end: str) -> Callable[[Sequence[Written]], str]:
    def write(calls: Sequence[Written]) -> str:
        return "\n".join(
            call.format(name)
            + "".join(argument.format(key, _text(value)) for key, value in arguments.items())
            + end
            for name, arguments in calls
        )

    return write


def _kimi_k3(calls: Sequence[Written]) -> str:
    def written(key: str, value: object) -> str:
        kind = "string" if isinstance(value, str) else "object"
        return f'<|open|>argument key="{key}" type="{kind}"<|sep|>{_text(value)}<|close|>argument<|sep|>'

    return "".join(
        f'<|open|>call tool="{name}" index="1"<|sep|>'
        + "".join(written(key, value) for key, value in arguments.items())
        + "<|close|>call<|sep|>"
        for name, arguments in calls
    )


def _function_gemma(calls: Sequence[Written]) -> str:
    [(name, arguments)] = calls
    written = (
        f"{key}:" + (f"<escape>{value}<escape>" if isinstance(value, str) else json.dumps(value))
        for key, value in arguments.items()
    )
    return f"call:{name}{{{','.join(written)}}}"


def _gemma4(calls: Sequence[Written]) -> str:
    def written(value: object) -> str:
        match value:
            case str():
                return f'<|"|>{value}<|"|>'
            case dict():
                return "{" + ",".join(f"{key}:{written(each)}" for key, each in value.items()) + "}"
            case list():
                return "[" + ",".join(map(written, value)) + "]"
            case _:
                return json.dumps(value)

    return "".join(f"call:{name}{written(arguments)}" for name, arguments in calls)


def _pythonic(calls: Sequence[Written]) -> str:
    def written(name: str, arguments: Arguments) -> str:
        return f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"

    return f"[{', '.join(written(*call) for call in calls)}]"


FORMS = {
    form.parser: form
    for form in (
        Form("json_tools", _json),
        Form("mistral", _mistral),
        Form("kimi_k2", _kimi_k2),
        Form("glm47", _pairs("arg_key", "arg_value"), several=False, strict=False),
        Form("laguna", _pairs("arg_key", "arg_value"), several=False, strict=False),
        Form("longcat", _pairs("longcat_arg_key", "longcat_arg_value"), several=False, strict=False),
        Form(
            "qwen3_coder",
            _elements("\n<function={}>\n", "<parameter={}>\n{}\n</parameter>\n", "</function>\n"),
            several=False,
            strict=False,
        ),
        Form(
            "minimax_m2",
            _elements('<invoke name="{}">\n', '<parameter name="{}">{}</parameter>\n', "</invoke>"),
            strict=False,
        ),
        Form(
            "minicpm5",
            _elements('"{}">', '<param name="{}">{}</param>', ""),
            several=False,
            strict=False,
        ),
        Form(
            "muse_spark",
            _elements(
                '<atem:invoke name="{}">\n',
                '<atem:parameter name="{}" string="true">{}</atem:parameter>\n',
                "</atem:invoke>\n",
            ),
            strict=False,
        ),
        Form("kimi_k3", _kimi_k3, strict=False),
        Form("function_gemma", _function_gemma, several=False, strict=False),
        Form("gemma4", _gemma4, strict=False),
        Form("pythonic", _pythonic),
    )
}


def read(form: ToolFormat, pieces: Sequence[str], ended: bool = True) -> list[Piece]:
    """All that a reader tells of a text that comes in these pieces."""
    reader = form.reader()
    told = [piece for text in pieces for piece in reader.feed(text)]
    return told + reader.finish(ended)


def calls_of(told: Sequence[Piece]) -> list[tuple[str, str]]:
    """The calls among it, with their arguments joined; each must have an end."""
    calls: list[tuple[str, str]] = []
    ends = 0
    for piece in told:
        match piece:
            case Begun(name=name):
                calls.append((name, ""))
            case More(text=text):
                calls[-1] = (calls[-1][0], calls[-1][1] + text)
            case Done():
                ends += 1
            case _:
                pass
    assert ends == len(calls)
    return calls
