"""Who looks at what is submitted, beside the link's thread: short prompts do not wait behind long ones."""

from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Final

from bus.messages.generation import ChatPrompt, InfillPrompt, Prompt, TextPrompt, TokenPrompt

LONG: Final = 100_000
"""Characters. To tokenise so many takes some tenths of a second; others need not wait for that."""


class Clerks:
    """Two threads, which share a tokenizer: to encode changes nothing of it."""

    def __init__(self) -> None:
        self._short = ThreadPoolExecutor(1, "intake")
        self._long = ThreadPoolExecutor(1, "intake-long")

    def clerk(self, prompt: Prompt) -> Executor:
        """Who looks at it."""
        return self._short if length(prompt) < LONG else self._long

    def close(self) -> None:
        """Nothing more is looked at."""
        for clerk in (self._short, self._long):
            clerk.shutdown(wait=False, cancel_futures=True)


def length(prompt: Prompt) -> int:
    """Characters that are to be tokenised, about."""
    match prompt:
        case ChatPrompt(messages=messages, tools=tools):
            said = sum(len(message.content or "") + len(message.reasoning or "") for message in messages)
            called = sum(len(call.arguments) for message in messages for call in message.tool_calls)
            return said + called + sum(map(len, tools))
        case TextPrompt(text=text):
            return len(text)
        case InfillPrompt(prefix=prefix, suffix=suffix):
            return len(prefix) + len(suffix)
        case TokenPrompt():
            return 0
