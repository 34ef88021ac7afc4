"""What the guide learns from and is measured by: conversations whose last turn is the right answer."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

Turn = Mapping[str, object]
"""One message in the form of OpenAI's API."""

Tool = Mapping[str, object]
"""One tool's definition in the form of OpenAI's API."""


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call as it should be."""

    name: str
    arguments: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns up to and with the answer; `facts` must all be in an answer, or `call` must be made."""

    kind: str
    turns: tuple[Turn, ...]
    tools: tuple[Tool, ...] = ()
    facts: tuple[str, ...] = ()
    call: Call | None = None

    @property
    def question(self) -> tuple[Turn, ...]:
        """All but the answer."""
        return self.turns[:-1]


def user(text: str) -> Turn:
    return {"role": "user", "content": text}


def system(text: str) -> Turn:
    return {"role": "system", "content": text}


def answer(text: str) -> Turn:
    return {"role": "assistant", "content": text}


def tool_call(call: Call) -> Turn:
    function = {"name": call.name, "arguments": dict(call.arguments)}
    return {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]}


def tool_result(text: str) -> Turn:
    return {"role": "tool", "content": text}


def is_right(conversation: Conversation, text: str) -> bool:
    """Whether `text`, as decoded, says what the conversation's answer has to say."""
    if conversation.call is not None:
        return _is_call(conversation.call, text)
    return "<tool_call>" not in text and all(fact.lower() in text.lower() for fact in conversation.facts)


def _is_call(call: Call, text: str) -> bool:
    inside = text.partition("<tool_call>")[2].partition("</tool_call>")[0]
    try:
        said = json.loads(inside)
    except ValueError:
        return False
    return bool(said == {"name": call.name, "arguments": dict(call.arguments)})
