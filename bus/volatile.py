"""Lines that programs put before a conversation and that change each turn: left out, as nobody reads them.

A prompt that differs from the last turn's in its first line shares nothing with what is kept of that turn.
Only whole lines are left out, only at the very beginning of a system message, and only those that are told
here with their source. A date or a time is never among them: it means something to the model.
"""

import re
from dataclasses import dataclass
from typing import Final

import msgspec

from bus.messages.generation import ChatMessage

SYSTEM: Final = frozenset({"system", "developer"})


@dataclass(frozen=True, slots=True)
class Line:
    """A line that a program writes for its own server, not for the model."""

    pattern: re.Pattern[str]
    """Of the whole line, without its end."""
    source: str
    """Who writes it, and where that is described."""


VOLATILE: Final = (
    Line(
        re.compile(r"x-anthropic-billing-header:.*", re.IGNORECASE),
        "Claude Code from 2.1.15 on: `x-anthropic-billing-header: cc_version=...; cc_entrypoint=...; "
        "cch=...;` with another `cch` in each request, as the first block of the system prompt "
        "(anthropics/claude-code#68900). Left out by vLLM (vllm-project/vllm#36829), vllm-mlx "
        "(waybarrios/vllm-mlx#277) and exo; Ollama has Claude Code not send it (ollama/ollama#14918).",
    ),
    Line(
        re.compile(r"x-anthropic-[a-z0-9-]+:[^\n]*;\s*", re.IGNORECASE),
        "Others of that kind, which end in a semicolon like it: exo's _strip_volatile_headers leaves out "
        "every `x-anthropic-...;` line, and claude-code-router does (musistudio/claude-code-router#1343).",
    ),
)


def steady(messages: tuple[ChatMessage, ...]) -> tuple[ChatMessage, ...]:
    """The conversation without its volatile lines; a message that was nothing else is gone."""
    changed = tuple(_without_lines(message) for message in messages)
    if all(new is old for new, old in zip(changed, messages, strict=True)):
        return messages
    return tuple(message for message in changed if message is not None)


def _without_lines(message: ChatMessage) -> ChatMessage | None:
    if message.role not in SYSTEM or not message.content:
        return message
    rest = message.content
    while _is_volatile(line := rest.partition("\n")[0]):
        rest = rest[len(line) :].lstrip("\r\n")
    if len(rest) == len(message.content):
        return message
    return msgspec.structs.replace(message, content=rest) if rest else None


def _is_volatile(line: str) -> bool:
    return any(each.pattern.fullmatch(line.rstrip("\r")) for each in VOLATILE)
