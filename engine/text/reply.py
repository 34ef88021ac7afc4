"""Sorts an answer's text: what is for the reader, what is reasoning, and what calls a tool."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from bus.messages.generation import ToolCallDelta
from engine.tools.calls import Begun, CallReader, Done, More, Piece, Stray, Unread
from engine.tools.formats import ToolFormat

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
class Said:
    """What a piece of an answer says. Its calls have no ids yet."""

    content: str = ""
    reasoning: str = ""
    calls: tuple[ToolCallDelta, ...] = ()
    unread: int = 0
    """Up to this character, the content ends with a call that could not be read: it stays as written."""

    def __add__(self, more: "Said") -> "Said":
        return Said(
            self.content + more.content,
            self.reasoning + more.reasoning,
            _joined(self.calls, more.calls),
            len(self.content) + more.unread if more.unread else self.unread,
        )


class Reply:
    """Reads one answer as it comes: calls are told while they arrive, and what is no call is content."""

    def __init__(
        self, splitter: Splitter | None, tools: ToolFormat | None, most_calls: int | None = None
    ) -> None:
        """Without a splitter all text is content. After `most_calls` calls, nothing more is read."""
        self._splitter = splitter
        self._tools = tools
        self._most_calls = most_calls
        self._reader: CallReader | None = None
        """Of the calls that the text stands in."""
        self._begun = 0
        self._ended = 0
        """Of the answer's calls."""
        self._after_markup = False
        """Blank text that follows reasoning or a call is layout, not content."""

    @property
    def held(self) -> int:
        """Characters that wait for what comes next."""
        return self._splitter.held if self._splitter else 0

    @property
    def reasoning(self) -> bool:
        """The text stands in the model's reasoning."""
        return self._splitter is not None and self._splitter.channel is Channel.REASONING

    @property
    def called(self) -> bool:
        """It has a call, or the beginning of one."""
        return self._begun > 0

    @property
    def over(self) -> bool:
        """It has all the calls that it may have: nothing after them counts."""
        return self._most_calls is not None and self._ended >= self._most_calls

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
        return said + self._leave_calls(ended=False)

    def _sort(self, segments: Sequence[Segment]) -> Said:
        said = Said()
        for segment in segments:
            if self.over:
                break
            if segment.channel is Channel.TOOL:
                said += self._in_calls(segment.text)
                continue
            said += self._leave_calls(ended=True)
            if segment.channel is Channel.REASONING:
                said += Said(reasoning=segment.text)
                self._after_markup = True
            elif segment.channel is Channel.CONTENT and not self.over:
                said += Said(content=self._without_layout(segment.text))
        return said

    def _without_layout(self, text: str) -> str:
        if not self._after_markup:
            return text
        text = text.lstrip()
        self._after_markup = not text
        return text

    def _in_calls(self, text: str) -> Said:
        if self._tools is None:
            return Said(content=text)
        if self._reader is None:
            self._reader = self._tools.reader()
        return self._tell(self._reader.feed(text), ended=False)

    def _leave_calls(self, ended: bool) -> Said:
        """`ended`: by the marker that ends calls, not with the answer."""
        reader, self._reader = self._reader, None
        if reader is None or self.over:
            return Said()
        return self._tell(reader.finish(ended), ended)

    def _tell(self, pieces: Sequence[Piece], ended: bool) -> Said:
        said = Said()
        for piece in pieces:
            if self.over:
                break
            match piece:
                case Begun(name=name):
                    said += Said(calls=(ToolCallDelta(self._begun, name=name),))
                    self._begun += 1
                    self._after_markup = True
                case More(text=text):
                    said += Said(calls=(ToolCallDelta(self._begun - 1, arguments=text),))
                case Done():
                    self._ended += 1
                case Stray(text=text):
                    said += Said(content=self._without_layout(text))
                case Unread(text=text):
                    written = self._as_written(text, ended)
                    said += Said(content=written, unread=len(written))
        return said

    def _as_written(self, text: str, ended: bool) -> str:
        assert self._tools is not None
        logger.info("a tool call of %d characters can't be read: given as content", len(text))
        self._after_markup = False
        return self._tools.start + text + (self._tools.end if ended else "")


def _joined(calls: tuple[ToolCallDelta, ...], more: tuple[ToolCallDelta, ...]) -> tuple[ToolCallDelta, ...]:
    """In a row, with what belongs together in one."""
    for delta in more:
        if calls and calls[-1].index == delta.index:
            last = calls[-1]
            arguments = last.arguments + delta.arguments
            calls = (*calls[:-1], ToolCallDelta(last.index, last.id, last.name, arguments))
        else:
            calls = (*calls, delta)
    return calls
