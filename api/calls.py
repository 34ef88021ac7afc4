"""Tool calls in OpenAI's shapes: in pieces as they arrive, and put together."""

from collections.abc import Iterable, Iterator

from api.shapes import CallBody, FunctionBody
from bus.messages.generation import ToolCallDelta


def call_parts(deltas: Iterable[ToolCallDelta]) -> Iterator[CallBody]:
    """Each call opens with its index, id and name, and empty arguments; those follow in pieces."""
    for delta in joined(deltas):
        if delta.id:
            yield CallBody(FunctionBody("", delta.name), delta.index, delta.id, "function")
        if delta.arguments:
            yield CallBody(FunctionBody(delta.arguments), delta.index)


def whole_calls(deltas: Iterable[ToolCallDelta]) -> tuple[CallBody, ...]:
    """The calls that all of an answer's deltas make, in the order of their index."""
    calls = joined(sorted(deltas, key=lambda delta: delta.index))
    return tuple(
        CallBody(FunctionBody(call.arguments, call.name), id=call.id, type="function") for call in calls
    )


def joined(deltas: Iterable[ToolCallDelta]) -> list[ToolCallDelta]:
    """The same deltas, with those of one call that follow each other made one."""
    found: list[ToolCallDelta] = []
    for delta in deltas:
        if found and found[-1].index == delta.index:
            last = found.pop()
            delta = ToolCallDelta(
                delta.index, last.id or delta.id, last.name or delta.name, last.arguments + delta.arguments
            )
        found.append(delta)
    return found
