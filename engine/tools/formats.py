"""How one model writes calls of the tools that it was offered."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from engine.tools.calls import Call, CallReader, Parse, calls_in
from engine.tools.layouts import LAYOUTS, Layout
from engine.tools.reader import SectionReader, WholeReader

Parser: TypeAlias = Callable[[str, list[object]], object]
"""Of `mlx_lm.tool_parsers`: takes what stands between the markers, and the tools' definitions."""


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """What stands around calls, and how to read what is between."""

    start: str
    end: str
    """Empty: calls go on to the answer's end."""
    parse: Parse
    layout: Layout | None = None
    """None: calls are given when they are whole."""

    def reader(self) -> CallReader:
        """For one pair of markers."""
        return SectionReader(self.parse, self.layout) if self.layout else WholeReader(self.parse)


def tool_format(parser: Parser, start: str, end: str, tools: Sequence[str]) -> ToolFormat:
    """`tools` are the definitions, as JSON; `start` and `end` the markers that the parser goes with."""
    definitions = [json.loads(tool) for tool in tools]

    def parse(text: str) -> list[Call]:
        try:
            return calls_in(parser(text, definitions))
        except Exception as error:  # a parser meets whatever the model wrote
            raise ValueError(str(error)) from error

    return ToolFormat(start, end, parse, LAYOUTS.get(format_name(parser)))


def format_name(parser: Parser) -> str:
    """What mlx-lm calls the format that a parser of its own reads."""
    return parser.__module__.rpartition(".")[2]
