"""A grammar in Lark's syntax while it is being written: https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from llguidance import regex_to_lark

from engine.constraints.parts import Schema, mapped
from engine.constraints.schema import OPTIONS
from engine.constraints.words import Words, quoted

ANY_TEXT = "/(?s:.*)/"
TRIMMED_TEXT = r"/([^\s\x1c-\x1f]((?s:.*)[^\s\x1c-\x1f])?)?/"
"""As Python's `strip` leaves it."""

_COMPACT_ESCAPES = 'nrbtf\\"'
"""No `\\u`: half a surrogate pair means nothing to a reader that is not JSON's."""


_Tree: TypeAlias = dict[str, "_Tree"]
"""Texts by their first character, then by the next."""


class Rules:
    """Collects rules; those who write them refer to earlier ones by the names that they got."""

    def __init__(self, words: Words, ends: Sequence[str]) -> None:
        """`ends`: what ends a call or a part of it: no text within may spell it out."""
        self._words = words
        self._ends = tuple(ends)
        self._unmarked = _avoiding([end for end in ends if end.startswith("<")])
        self._lines: list[str] = []
        self._named: dict[str, str] = {}

    def spelled(self, text: str) -> str:
        return self._words.spelled(text)

    def is_marked(self, text: str) -> bool:
        """It begins with a marker that is one token."""
        return any(text.startswith(mark) for mark in self._words.marks)

    def rule(self, body: str, options: str = "") -> str:
        """Write a rule and return its name; the same body is written once."""
        if (known := self._named.get(options + body)) is not None:
            return known
        name = self.name()
        self._lines.append(f"{name}{options}: {body}")
        self._named[options + body] = name
        return name

    def name(self) -> str:
        """For a rule that is written later, as it refers to itself."""
        self._lines.append("")
        return f"r{len(self._lines)}"

    def define(self, name: str, body: str) -> None:
        self._lines.append(f"{name}: {body}")

    def terminal(self, body: str) -> str:
        name = f"T{len(self._lines)}"
        self._lines.append(f"{name}: {body}")
        return name

    def json(self, schema: Schema, root: Schema) -> str:
        """A value in JSON; `root`: where the schema's references lead."""
        shared: Schema = {key: root[key] for key in ("$defs", "definitions") if key in root}
        options = {**OPTIONS, "json_allowed_escapes": _COMPACT_ESCAPES}
        guarded = mapped({**shared, **schema}, self._guarded)
        return self.rule("%json " + json.dumps({**guarded, "x-guidance": options}))

    def _guarded(self, schema: Schema) -> Schema:
        """Strings that nothing else is said of don't spell out the end of a call."""
        kinds = schema.get("type")
        strings = kinds == "string" or (isinstance(kinds, list) and "string" in kinds)
        if not strings or set(schema) & {"enum", "const", "pattern", "format"} or not self._ends:
            return schema
        return {**schema, "pattern": self._unmarked}

    def text(
        self, close: str, kinds: Iterable[str], never: Sequence[str] = (), without: Sequence[str] = ()
    ) -> str:
        """Text as it stands, of all of `kinds` (terminals), up to and including `close`.

        `never`: terminals of which it may be none; `without`: what else may not stand anywhere in it.
        """
        barred = [
            f"~({ANY_TEXT} {quoted(part)} {ANY_TEXT})" for part in dict.fromkeys([*without, *self._ends])
        ]
        body = " & ".join([*kinds, *barred, *(f"~{kind}" for kind in never)])
        text = self.terminal(body)
        if not close or self.is_marked(close):
            return self.rule(f"{text} {self.spelled(close)}" if close else text)
        # The lexer takes all that it can, so a text has to end where its close first stands: hence `lazy`.
        return self.rule(self.terminal(f"{text} {quoted(close)}"), "[lazy]")

    def written(self, start: str) -> str:
        return "\n".join([f"start: {start}", *(line for line in self._lines if line)])


def _avoiding(ends: Sequence[str]) -> str:
    """A regular expression, without negation, of all strings in which none of these stands.

    Each of them begins with `<` and has no other: so a string is cut at every `<`, and what follows one must
    not go on as any of them does. It is written along their common beginnings.
    """
    tree: _Tree = {}
    for end in ends:
        at = tree
        for character in end[1:]:
            at = at.setdefault(character, {})
    return f"^[^<]*(<{_other_than(tree)})*$"


def _other_than(tree: "_Tree") -> str:
    ways = ["[^<" + "".join(map(re.escape, tree)) + "][^<]*"]
    ways += [re.escape(character) + _other_than(below) for character, below in tree.items() if below]
    return f"({'|'.join(ways)})?"


def one_of(options: Iterable[str]) -> str:
    return "(" + " | ".join(options) + ")"


def kinds_of_string(schema: Schema) -> list[str]:
    """What a schema says of a string, as terminals; its `format` can't be said of plain text."""
    kinds = []
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        texts = [value for value in values if isinstance(value, str)] if isinstance(values, list) else []
        kinds.append(one_of(quoted(text) for text in texts))
    if isinstance(pattern := schema.get("pattern"), str):
        kinds.append(_search(pattern))
    least, most = schema.get("minLength", 0), schema.get("maxLength", "")
    if least or most != "":
        kinds.append(f"/(?s:.{{{least},{most}}})/")
    return kinds


def _search(pattern: str) -> str:
    """A pattern that is searched for, as one that the whole text has to match."""
    inner = pattern.removeprefix("^")
    trimmed = inner[:-1] if inner.endswith("$") and not inner.endswith("\\$") else inner
    head = "" if pattern.startswith("^") else "(?s:.*)"
    tail = "" if trimmed != inner else "(?s:.*)"
    return "/" + regex_to_lark(f"{head}({trimmed}){tail}", "dw") + "/"
