"""Reads grammars in GBNF, llama.cpp's syntax: https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from engine.constraints.errors import GrammarError

Ranges: TypeAlias = tuple[tuple[int, int], ...]
"""Characters, by their first and last code points: ascending, with gaps between them."""

LAST: Final = 0x10FFFF
DEEPEST: Final = 50
"""Groups within groups."""
MOST_TIMES: Final = 2_000
"""Of a repetition with bounds, as in llama.cpp."""


@dataclass(frozen=True, slots=True)
class Chars:
    """One character of these."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Name:
    """What a rule of that name says."""

    name: str


@dataclass(frozen=True, slots=True)
class Times:
    """Something, so many times; `most` None: any number."""

    what: "Node"
    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class Series:
    """One after the other; none is the empty text."""

    parts: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Either:
    """One of these."""

    options: tuple["Node", ...]


Node: TypeAlias = Chars | Name | Times | Series | Either

_TOKEN: Final = re.compile(
    r"""(?P<space>[\ \t\r\n]+|\#[^\r\n]*)
      | (?P<head>[A-Za-z0-9_-]+)[\ \t]*::=
      | (?P<name>[A-Za-z0-9_-]+)
      | (?P<text>"(?:[^"\\]|\\.)*")
      | (?P<chars>\[(?:[^\]\\]|\\.)*\])
      | (?P<times>\{\s*\d+\s*(?:,\s*\d*\s*)?\})
      | (?P<sign>[()|*+?.])""",
    re.VERBOSE | re.DOTALL,
)

_ESCAPE: Final = re.compile(
    r"\\(?:x(?P<x>[0-9A-Fa-f]{2})|u(?P<u>[0-9A-Fa-f]{4})|U(?P<U>[0-9A-Fa-f]{8})|(?P<c>.))|(?P<plain>[^\\])",
    re.DOTALL,
)
_NAMED: Final[Mapping[str, str]] = {"t": "\t", "r": "\r", "n": "\n", **{c: c for c in '\\"[]-^'}}

_SIGNS: Final[Mapping[str, tuple[int, int | None]]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}


def rules_of(text: str) -> dict[str, Node]:
    """Every rule by its name, `root` among them. Raises GrammarError."""
    reader = _Reader(text)
    rules = reader.rules()
    if "root" not in rules:
        raise GrammarError("the grammar has no rule `root`, which an answer begins with")
    for name in sorted(reader.named):
        if name not in rules:
            raise GrammarError(f"the grammar has no rule `{name}`, which others name")
    return rules


def united(*sets: Ranges) -> Ranges:
    """All characters of these, and no half of a surrogate pair: those are no characters."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(part for ranges in sets for part in ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return tuple(part for each in found for part in _without_surrogates(*each))


def inverted(ranges: Ranges) -> Ranges:
    """All other characters."""
    found, begin = [], 0
    for first, last in ranges:
        if begin < first:
            found.append((begin, first - 1))
        begin = last + 1
    return united((*found, (begin, LAST)) if begin <= LAST else tuple(found))


def overlap(one: Ranges, other: Ranges) -> bool:
    """Whether they have a character in common."""
    return any(first <= end and begin <= last for first, last in one for begin, end in other)


def _without_surrogates(first: int, last: int) -> Iterator[tuple[int, int]]:
    for begin, end in ((first, min(last, 0xD7FF)), (max(first, 0xE000), last)):
        if begin <= end:
            yield begin, end


class _Reader:
    """Reads one grammar. Line breaks count as spaces: a rule ends where the next one begins."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._place = 0
        self._kind, self._said = "", ""
        self.named: set[str] = set()
        """Rules that others name."""
        self._next()

    def rules(self) -> dict[str, Node]:
        found: dict[str, Node] = {}
        while self._kind:
            if self._kind != "head":
                raise self._wrong("a rule begins with its name and `::=`")
            name = self._said
            if name in found:
                raise GrammarError(f"the grammar has two rules `{name}`")
            self._next()
            found[name] = self._options(0)
        return found

    def _options(self, depth: int) -> Node:
        options = [self._sequence(depth)]
        while self._said == "|" and self._kind == "sign":
            self._next()
            options.append(self._sequence(depth))
        return options[0] if len(options) == 1 else Either(tuple(options))

    def _sequence(self, depth: int) -> Node:
        parts: list[Node] = []
        while (part := self._part(depth)) is not None:
            parts.append(self._repeated(part))
        return parts[0] if len(parts) == 1 else Series(tuple(parts))

    def _part(self, depth: int) -> Node | None:
        kind, said = self._kind, self._said
        match kind, said:
            case "text", _:
                part: Node = Series(tuple(Chars(((code, code),)) for code in self._codes(said[1:-1])))
            case "chars", _:
                part = Chars(self._class(said[1:-1]))
            case "name", _:
                self.named.add(said)
                part = Name(said)
            case "sign", ".":
                part = Chars(united(((0, LAST),)))
            case "sign", "(":
                return self._group(depth + 1)
            case _:
                return None
        self._next()
        return part

    def _group(self, depth: int) -> Node:
        if depth > DEEPEST:
            raise GrammarError(f"the grammar's groups are nested more than {DEEPEST} deep")
        self._next()
        part = self._options(depth)
        if (self._kind, self._said) != ("sign", ")"):
            raise self._wrong("a `)` is missing")
        self._next()
        return part

    def _repeated(self, part: Node) -> Node:
        while self._kind == "times" or (self._kind == "sign" and self._said in _SIGNS):
            least, most = _SIGNS[self._said] if self._kind == "sign" else self._bounds(self._said[1:-1])
            part = Times(part, least, most)
            self._next()
        return part

    def _bounds(self, said: str) -> tuple[int, int | None]:
        first, comma, second = (each.strip() for each in said.partition(","))
        least = int(first[:9])
        most = (int(second[:9]) if second else None) if comma else least
        if max(least, most or 0) > MOST_TIMES or (most is not None and most < least):
            raise self._wrong(f"a repetition has bounds in order, {MOST_TIMES} at most")
        return least, most

    def _class(self, said: str) -> Ranges:
        inverts = said.startswith("^")
        # A hyphen that was written with an escape is no range's.
        codes = list(self._units(said[1:] if inverts else said))
        ranges, place = [], 0
        while place < len(codes):
            first = last = codes[place][0]
            if place + 2 < len(codes) and codes[place + 1][1] == "-":
                last = codes[place + 2][0]
                place += 2
            if last < first:
                raise self._wrong("the last character of a range comes before its first")
            ranges.append((first, last))
            place += 1
        made = inverted(united(tuple(ranges))) if inverts else united(tuple(ranges))
        if not made:
            raise self._wrong("no character is in this class")
        return made

    def _codes(self, said: str) -> list[int]:
        codes = [code for code, _ in self._units(said)]
        if any(0xD800 <= code <= 0xDFFF for code in codes):
            raise self._wrong("half of a surrogate pair is no character")
        return codes

    def _units(self, said: str) -> Iterator[tuple[int, str]]:
        """Code points, and how each was written."""
        for unit in _ESCAPE.finditer(said):
            written = next((unit[key] for key in ("x", "u", "U") if unit[key] is not None), None)
            if written is not None:
                code = int(written, 16)
            elif unit["plain"] is not None:
                code = ord(unit["plain"])
            elif unit["c"] in _NAMED:
                code = ord(_NAMED[unit["c"]])
            else:
                raise self._wrong(f"`\\{unit['c']}` is no escape")
            if code > LAST:
                raise self._wrong(f"`{unit[0]}` is no character")
            yield code, unit[0]

    def _next(self) -> None:
        while self._place < len(self._text):
            found = _TOKEN.match(self._text, self._place)
            if found is None or found.lastgroup is None:
                raise self._wrong("this is no GBNF")
            self._place = found.end()
            if found.lastgroup != "space":
                self._kind, self._said = found.lastgroup, found[found.lastgroup]
                return
        self._kind = self._said = ""

    def _wrong(self, why: str) -> GrammarError:
        line = self._text.count("\n", 0, self._place) + 1
        near = self._text[max(0, self._place - 20) : self._place + 20]
        return GrammarError(f"the grammar can't be read in line {line}, near {near!r}: {why}")
