"""Sorts an answer's text: what is for the reader, what is reasoning, and what calls a tool."""

import json
import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from bus.messages.generation import ToolCall

logger = logging.getLogger(__name__)


class Channel(Enum):
    """Whom a stretch of an answer is for."""

    CONTENT = auto()
    REASONING = auto()
    TOOL = auto()
    HIDDEN = auto()
    """Headers that only the model's own format needs."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Text of one channel, its markers stripped. A channel that was left is followed by another segment."""

    channel: Channel
    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """A call as a model wrote it. `arguments` is a JSON object, as text."""

    name: str
    arguments: str


class Splitter(Protocol):
    """Cuts text at a model's own markers, and holds back what may become one."""

    @property
    def channel(self) -> Channel:
        """Where the text stands now."""

    @property
    def held(self) -> int:
        """Characters that wait for what comes next."""

    def split(self, text: str) -> Sequence[Segment]: ...

    def flush(self) -> str:
        """The text ended: what was held back is no marker, but part of the present channel."""


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """How a model writes calls: what stands around them, and how to read what is between.

    `parse` raises ValueError for what is no call.
    """

    start: str
    end: str
    parse: Callable[[str], Sequence[Call]]


@dataclass(frozen=True, slots=True)
class Said:
    """What a piece of an answer says."""

    content: str = ""
    reasoning: str = ""
    calls: tuple[ToolCall, ...] = ()


class Reply:
    """Reads one answer as it comes. A call is given whole when it ends; one that can't be read is content."""

    def __init__(self, splitter: Splitter | None, tools: ToolFormat | None) -> None:
        """Without a splitter all text is content."""
        self._splitter = splitter
        self._tools = tools
        self._call = ""
        self._in_call = False
        self._after_markup = False
        """Blank text that follows reasoning or a call is layout, not content."""
        self.called = False

    @property
    def held(self) -> int:
        """Characters that wait for what comes next."""
        return self._splitter.held if self._splitter else 0

    @property
    def reasoning(self) -> bool:
        """The text stands in the model's reasoning."""
        return self._splitter is not None and self._splitter.channel is Channel.REASONING

    def feed(self, text: str) -> Said:
        """Take more of the answer."""
        if self._splitter is None:
            return Said(content=text)
        return self._sort(self._splitter.split(text))

    def finish(self) -> Said:
        """The answer ended, perhaps in the middle of a marker or a call."""
        if self._splitter is None:
            return Said()
        said = self._sort([Segment(self._splitter.channel, self._splitter.flush())])
        if not self._in_call:
            return said
        self._in_call = False
        calls, raw = self._read_call(ended=False)
        return Said(said.content + raw, said.reasoning, said.calls + calls)

    def _sort(self, segments: Sequence[Segment]) -> Said:
        content, reasoning = "", ""
        calls: tuple[ToolCall, ...] = ()
        for segment in segments:
            if segment.channel is Channel.TOOL:
                self._in_call = True
                self._call += segment.text
                continue
            if self._in_call:
                self._in_call = False
                read, raw = self._read_call(ended=True)
                calls += read
                content += raw
            if segment.channel is Channel.REASONING:
                reasoning += segment.text
                self._after_markup = True
            elif segment.channel is Channel.CONTENT:
                content += self._without_layout(segment.text)
        return Said(content, reasoning, calls)

    def _without_layout(self, text: str) -> str:
        if not self._after_markup:
            return text
        text = text.lstrip()
        self._after_markup = not text
        return text

    def _read_call(self, ended: bool) -> tuple[tuple[ToolCall, ...], str]:
        """The calls in what stood between the markers, or else that text as it was written."""
        text, self._call = self._call, ""
        tools = self._tools
        if tools is None:
            return (), text
        try:
            calls = tools.parse(text)
        except ValueError:
            calls = ()
        if not calls:
            logger.info("a tool call of %d characters can't be read: given as content", len(text))
            return (), tools.start + text + (tools.end if ended else "")
        self.called = True
        self._after_markup = True
        return tuple(
            ToolCall(f"call_{secrets.token_hex(12)}", call.name, call.arguments) for call in calls
        ), ""


def as_call(name: object, arguments: object) -> Call:
    """Check what a model's parser found. Raises ValueError."""
    if not isinstance(name, str) or not name:
        raise ValueError("a call without a name")
    if isinstance(arguments, str):
        arguments = json.loads(arguments)
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        raise ValueError("a call's arguments are no object")
    return Call(name, json.dumps(arguments, ensure_ascii=False))
