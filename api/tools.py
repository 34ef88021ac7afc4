"""From the tools of a chat body, and the choice among them, to what the model is offered and held to.

OpenAI's older form, `functions` and `function_call`, offers the same: only its answers look different.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from api.errors import ApiError, invalid
from api.schema import (
    MAX_DEPTH,
    AllowedTools,
    ChatBody,
    NamedFunction,
    ToolBody,
    ToolChoice,
    ToolFunction,
    decode,
    shallow,
)
from bus.messages.generation import CallFormat


@dataclass(frozen=True)
class Offer:
    """The tools that the model gets to see, and whether it has to call one."""

    tools: tuple[str, ...] = ()
    """As the client wrote them."""
    format: CallFormat | None = None
    """None: it may call some, or none."""
    calls: int | None = None
    """As in Stopping."""


@dataclass(frozen=True)
class _Tool:
    name: str
    text: str


def offer_of(body: ChatBody) -> Offer:
    """What a chat body offers. Raises ApiError 400.

    A function that is named by `tool_choice` is called exactly once, as at OpenAI.
    """
    if body.functions or isinstance(body.function_call, NamedFunction):
        return _functions(body)
    tools = [_tool(raw, f"tools[{i}]") for i, raw in enumerate(body.tools or ())]
    calls = 1 if body.parallel_tool_calls is False else None
    match body.tool_choice:
        case None | "auto":
            return _offer(tools, calls)
        case "none":
            return Offer()
        case "required":
            return _required(tools, calls)
        case ToolChoice() as choice:
            return _chosen(choice, tools, calls)
        case _:
            raise invalid("Use 'none', 'auto', 'required', or an object that names tools.", "tool_choice")


def _functions(body: ChatBody) -> Offer:
    """What the older form offers: an answer of that form has room for one call."""
    if body.tools or body.tool_choice is not None:
        raise invalid("`functions` is the old form of `tools`: use one of the two.", "functions")
    tools = [_old_tool(raw, f"functions[{i}]") for i, raw in enumerate(body.functions or ())]
    match body.function_call:
        case None | "auto":
            return _offer(tools, 1)
        case "none":
            return Offer()
        case NamedFunction(name):
            _known(name, tools, "function_call")
            return _offer(tools, 1, CallFormat(name))
        case _:
            raise invalid("Use 'none', 'auto', or an object that names a function.", "function_call")


def _chosen(choice: ToolChoice, tools: Sequence[_Tool], calls: int | None) -> Offer:
    match choice.type:
        case "function":
            if choice.function is None:
                raise _missing("tool_choice.function")
            _known(choice.function.name, tools, "tool_choice")
            return _offer(tools, 1, CallFormat(choice.function.name))
        case "allowed_tools":
            if choice.allowed_tools is None:
                raise _missing("tool_choice.allowed_tools")
            return _allowed(choice.allowed_tools, tools, calls)
        case _:
            raise _functions_only("tool_choice.type")


def _allowed(allowed: AllowedTools, tools: Sequence[_Tool], calls: int | None) -> Offer:
    """Only the tools that are allowed are shown: a model can't be tempted by what it does not see."""
    names = set()
    for number, tool in enumerate(allowed.tools):
        at = f"tool_choice.allowed_tools.tools[{number}]"
        if tool.type != "function":
            raise _functions_only(f"{at}.type")
        if tool.function is None:
            raise _missing(f"{at}.function")
        _known(tool.function.name, tools, at)
        names.add(tool.function.name)
    shown = [tool for tool in tools if tool.name in names]
    return _required(shown, calls) if allowed.mode == "required" else _offer(shown, calls)


def _required(tools: Sequence[_Tool], calls: int | None) -> Offer:
    if not tools:
        raise invalid("A tool can't be called where none is offered: give `tools`.", "tool_choice")
    return _offer(tools, calls, CallFormat())


def _offer(tools: Sequence[_Tool], calls: int | None, format: CallFormat | None = None) -> Offer:
    return Offer(tuple(tool.text for tool in tools), format, calls)


def _known(name: str, tools: Sequence[_Tool], param: str) -> None:
    if all(tool.name != name for tool in tools):
        names = ", ".join(tool.name for tool in tools) or "none at all"
        raise invalid(f"There is no tool '{name[:64]}' among those offered: {names[:500]}.", param)


def _tool(raw: msgspec.Raw, at: str) -> _Tool:
    tool = decode(raw, ToolBody, at)
    if tool.type != "function":
        raise _functions_only(f"{at}.type")
    if tool.function is None:
        raise _missing(f"{at}.function")
    _shallow(tool.function, f"{at}.function")
    return _Tool(tool.function.name, str(raw, "utf-8"))


def _old_tool(raw: msgspec.Raw, at: str) -> _Tool:
    function = decode(raw, ToolFunction, at)
    _shallow(function, at)
    return _Tool(function.name, f'{{"type":"function","function":{str(raw, "utf-8")}}}')


def _shallow(function: ToolFunction, at: str) -> None:
    if not shallow(function.parameters):
        raise invalid(f"Nested deeper than {MAX_DEPTH} levels.", f"{at}.parameters")


def _functions_only(param: str) -> ApiError:
    message = (
        "Only tools of type 'function' are served: chat templates know no others. For a custom tool with a "
        "grammar, ask for the text itself with `structured_outputs`."
    )
    return invalid(message, param, "unsupported_value")


def _missing(param: str) -> ApiError:
    return invalid(f"Missing required field '{param}'.", param, "missing_required_parameter")
