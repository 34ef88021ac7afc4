"""Finds where each argument of a call ends, and where the call does, in text that is still arriving."""

import re
from dataclasses import dataclass
from typing import Final, Protocol


@dataclass(frozen=True, slots=True)
class Cut:
    """What was found: an argument at `begin` to `end` of the text, or the call's end there."""

    begin: int
    end: int
    after: int
    """Where to go on; a comma is passed over."""
    last: bool = False
    """It is the call's end."""


class Cutter(Protocol):
    """Looks through one call's arguments. Its text grows at the end; what was found is cut off."""

    def find(self, text: str) -> Cut | None:
        """The next thing that is whole, or None: more text is needed."""

    def begun(self, text: str) -> bool:
        """Whether an argument has begun in text that is not whole."""


@dataclass(frozen=True, slots=True)
class Element:
    """What an argument stands between."""

    start: str
    end: str


class ElementCutter:
    """For arguments that stand between tags, as in XML."""

    def __init__(self, elements: tuple[Element, ...], end: str, end_wins: bool = False) -> None:
        """`end` is the call's; empty: it ends with the text. `end_wins`: it counts in an argument, too."""
        self._elements = elements
        self._end = end
        self._end_wins = end_wins
        self._ends = tuple(literal for literal in (end, *(each.end for each in elements)) if literal)
        self._longest = max(map(len, self._ends))
        self._seen = 0
        """Up to here the text has none of the ends."""

    def find(self, text: str) -> Cut | None:
        begin = max(0, self._seen - self._longest + 1)
        if not any(text.find(literal, begin) >= 0 for literal in self._ends):
            self._seen = len(text)
            return None
        found = self._first(text)
        self._seen = 0 if found is not None else len(text)
        return found

    def begun(self, text: str) -> bool:
        return any(each.start in text for each in self._elements)

    def _first(self, text: str) -> Cut | None:
        last = text.find(self._end) if self._end else -1
        starts = [(at, each) for each in self._elements if (at := text.find(each.start)) >= 0]
        if starts:
            at, element = min(starts, key=lambda start: start[0])
            close = text.find(element.end, at + len(element.start))
            limit = close if self._end_wins else at
            if close >= 0 and not 0 <= last < limit:
                return _cut(at, close + len(element.end))
            if not 0 <= last < (len(text) if self._end_wins else at):
                return None
        return _cut(last, last + len(self._end), last=True) if last >= 0 else None


_BRACKETS: Final = {"(": ")", "[": "]", "{": "}"}


class NestedCutter:
    """For arguments that commas divide, with quotes and brackets around what may hold commas."""

    def __init__(self, end: str, quotes: tuple[str, ...], *, escapes: bool, nests: bool) -> None:
        """`end`: the bracket that ends the call. `quotes`: what strings stand between, longer ones first.
        `escapes`: a backslash in a string makes what follows a part of it. `nests`: brackets count."""
        self._end = end
        self._quotes = quotes
        self._escapes = escapes
        self._nests = nests
        self._plain = re.compile("[^" + re.escape(",\\()[]{}" + "".join(each[0] for each in quotes)) + "]+")
        self._place = 0
        self._quote = ""
        """What ends the string that is open."""
        self._open: list[str] = []

    def find(self, text: str) -> Cut | None:
        while self._place < len(text):
            if plain := self._plain.match(text, self._place):
                self._place = plain.end()
                continue
            if self._may_grow(text):
                return None
            if self._quote:
                self._place += self._in_string(text)
            elif quote := next((each for each in self._quotes if text.startswith(each, self._place)), None):
                self._quote = quote
                self._place += len(quote)
            elif not self._open and text[self._place] in (",", self._end):
                return self._found(text)
            else:
                self._count(text[self._place])
                self._place += 1
        return None

    def begun(self, text: str) -> bool:
        return bool(text.strip())

    def _in_string(self, text: str) -> int:
        """How far the next step in a string goes."""
        if text.startswith(self._quote, self._place):
            length, self._quote = len(self._quote), ""
            return length
        return 2 if self._escapes and text[self._place] == "\\" else 1

    def _may_grow(self, text: str) -> bool:
        """Whether the text ends in what may become a quote or an escape."""
        rest = text[self._place : self._place + max(map(len, self._quotes))]
        if self._place + len(rest) < len(text):
            return False
        quotes = (self._quote, *(("\\.",) if self._escapes else ())) if self._quote else self._quotes
        return any(len(rest) < len(each) and each.startswith(rest) for each in quotes)

    def _count(self, character: str) -> None:
        if not self._nests:
            return
        if character in _BRACKETS:
            self._open.append(_BRACKETS[character])
        elif self._open and character == self._open[-1]:
            self._open.pop()

    def _found(self, text: str) -> Cut:
        """An argument that ends here, if there is one before the comma or the call's end."""
        at, character = self._place, text[self._place]
        self._place = 0
        if character == ",":
            return Cut(0, at, at + 1)
        return Cut(0, at, at) if text[:at].strip() else Cut(at, at + 1, at + 1, last=True)


def _cut(begin: int, end: int, last: bool = False) -> Cut:
    return Cut(begin, end, end, last)
