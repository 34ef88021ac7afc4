"""Follows a JSON object's text as it comes, and says how much of it is certain to be JSON (RFC 8259)."""

import re
from enum import Enum, auto
from typing import Final

_BLANK: Final = re.compile(r"[ \t\n\r]*")
_INSIDE: Final = re.compile(r'(?:[^"\\\x00-\x1f]+|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*')
"""Of a string: whole escapes only."""
_ESCAPE_BEGUN: Final = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_WORD: Final = re.compile(r"[-+.0-9a-zA-Z]+")
_SCALAR: Final = re.compile(
    r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null|NaN|-?Infinity"
)
"""Python's words for what is no number are in it: mlx-lm reads JSON with Python's json."""


class _Awaits(Enum):
    VALUE = auto()
    FIRST_VALUE = auto()
    """Or the list's end."""
    KEY = auto()
    FIRST_KEY = auto()
    """Or the object's end."""
    COLON = auto()
    REST = auto()
    """A comma, or the end of what is open."""
    IN_KEY = auto()
    IN_STRING = auto()


class JsonText:
    """One JSON object, which the text begins with. What it gives out is the beginning of one, always."""

    def __init__(self) -> None:
        self.over = False
        """The object has ended; what follows it is in `rest`."""
        self.broken = False
        """What is in `rest` can't follow."""
        self.rest = ""
        """Came, but was not given out."""
        self._awaits = _Awaits.VALUE
        self._open: list[str] = []
        """What closes each object and list that is open."""

    def feed(self, text: str) -> str:
        """Take more text; returns what of it is certain."""
        text, place = self.rest + text, 0
        while place < len(text) and not (self.over or self.broken):
            after = self._step(text, place)
            if after == place:
                break
            place = after
        self.rest = text[place:]
        return text[:place]

    def _step(self, text: str, place: int) -> int:
        """Where the next thing ends that begins at `place`; there, if it can't be told yet or is broken."""
        if self._awaits in (_Awaits.IN_KEY, _Awaits.IN_STRING):
            return self._string(text, place)
        begin = _matched(_BLANK, text, place)
        if begin == len(text):
            return begin
        character = text[begin]
        match self._awaits:
            case _Awaits.COLON:
                return self._only(":", _Awaits.VALUE, character, begin, place)
            case _Awaits.REST if character == ",":
                self._awaits = _Awaits.KEY if self._open[-1] == "}" else _Awaits.VALUE
                return begin + 1
            case _Awaits.REST | _Awaits.FIRST_KEY | _Awaits.FIRST_VALUE if character == self._open[-1]:
                self._close()
                return begin + 1
            case _Awaits.KEY | _Awaits.FIRST_KEY:
                return self._only('"', _Awaits.IN_KEY, character, begin, place)
            case _Awaits.VALUE | _Awaits.FIRST_VALUE:
                return self._value(text, begin, place)
            case _:
                self.broken = True
                return place

    def _only(self, wanted: str, then: _Awaits, character: str, begin: int, place: int) -> int:
        if character != wanted:
            self.broken = True
            return place
        self._awaits = then
        return begin + 1

    def _value(self, text: str, begin: int, place: int) -> int:
        match text[begin]:
            case "{":
                self._open.append("}")
                self._awaits = _Awaits.FIRST_KEY
                return begin + 1
            case _ if not self._open:  # it is to be an object
                self.broken = True
                return place
            case "[":
                self._open.append("]")
                self._awaits = _Awaits.FIRST_VALUE
                return begin + 1
            case '"':
                self._awaits = _Awaits.IN_STRING
                return begin + 1
            case _:
                return self._scalar(text, begin, place)

    def _scalar(self, text: str, begin: int, place: int) -> int:
        end = _matched(_WORD, text, begin)
        if end == len(text):
            return begin  # it may go on
        self.broken = not _SCALAR.fullmatch(text, begin, end)
        self._awaits = _Awaits.REST
        return place if self.broken else end

    def _string(self, text: str, place: int) -> int:
        end = _matched(_INSIDE, text, place)
        if end == len(text) or _ESCAPE_BEGUN.match(text, end):
            return end
        if text[end] != '"':
            self.broken = end == place
            return end
        self._awaits = _Awaits.COLON if self._awaits is _Awaits.IN_KEY else _Awaits.REST
        return end + 1

    def _close(self) -> None:
        self._open.pop()
        self._awaits = _Awaits.REST
        self.over = not self._open


def _matched(pattern: re.Pattern[str], text: str, place: int) -> int:
    """Where the pattern's match at `place` ends; there, if it does not match."""
    match = pattern.match(text, place)
    return match.end() if match else place
