"""Submissions, and a tokenizer of words to read them with."""

from __future__ import annotations

from bus.messages.base import SequenceId
from bus.messages.engine import Submit
from bus.messages.generation import (
    ChatMessage,
    ChatPrompt,
    Prompt,
    Sampling,
    Stopping,
)
from engine.intake import Intake
from engine.text.marks import QUESTIONS
from engine.text.template import Ending
from engine.text.thinking import Template
from engine.work import Job

CONTEXT = 100
VOCABULARY = 1000


class Spelled:
    """A token for each word's length."""

    def __init__(self, text: str) -> None:
        self.tokens = [len(word) for word in text.split()]

    def token_at(self, character: int) -> int | None:
        return None


class Words:
    """A tokenizer with a token for each word's length, that keeps what it was asked to render."""

    has_template = True
    think_markers = ("<think>", "</think>")

    def __init__(self) -> None:
        self.rendered: list[dict[str, object]] = []
        self.tools: list[object] | None = None
        self.options: dict[str, object] = {}
        self.ending = Ending.CLOSED

    def encode(self, text: str) -> list[int]:
        return Spelled(text).tokens

    def decode(self, tokens: object) -> str:
        return f"decoded {tokens}"

    def spell(self, text: str) -> Spelled:
        return Spelled(text)

    def token(self, text: str) -> int | None:
        return {"<fim_prefix>": 901, "<fim_suffix>": 902, "<fim_middle>": 903}.get(text)

    def opening(self) -> list[int]:
        return [900]

    def encode_plainly(self, text: str) -> list[int]:
        return self.encode(text)

    def template(self, tools: bool) -> Template:
        return Template(frozenset({"enable_thinking"}))

    def compose(
        self,
        messages: list[dict[str, object]],
        tools: list[object] | None,
        options: dict[str, object],
        ending: Ending,
    ) -> str:
        if messages[-1]["content"] not in QUESTIONS:
            self.rendered, self.tools, self.options, self.ending = messages, tools, options, ending
        if any(message["role"] == "system" for message in messages):
            raise RuntimeError("System role not supported")
        return " ".join(str(message["content"]) for message in messages)


def accept(
    words: Words,
    prompt: Prompt,
    sampling: Sampling | None = None,
    stopping: Stopping | None = None,
    logprobs: int | None = None,
    echo: bool = False,
) -> Job:
    submit = Submit(
        SequenceId("a"), prompt, sampling or Sampling(), stopping or Stopping(), logprobs=logprobs, echo=echo
    )
    return Intake(words, CONTEXT, VOCABULARY, clock=lambda: 7.0).accept(submit)


def chat(*messages: ChatMessage, tools: tuple[str, ...] = (), options: str = "{}") -> ChatPrompt:
    return ChatPrompt(messages, tools, options)


USER = ChatMessage("user", "hello there")
