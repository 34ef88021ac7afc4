"""A grammar in Lark's syntax while it is being written: https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md."""

import json
from collections.abc import Iterable, Sequence

from llguidance import regex_to_lark

from engine.constraints.schema import OPTIONS, Schema
from engine.constraints.words import Words, quoted

ANY_TEXT = "/(?s:.*)/"
TRIMMED_TEXT = r"/([^\s\x1c-\x1f]((?s:.*)[^\s\x1c-\x1f])?)?/"
"""As Python's `strip` leaves it."""

_COMPACT_ESCAPES = 'nrbtf\\"'
"""No `\\u`: half a surrogate pair means nothing to a reader that is not JSON's."""


class Rules:
    """Collects rules; those who write them refer to earlier ones by the names that they got."""

    def __init__(self, words: Words) -> None:
        self._words = words
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
        shared = {key: root[key] for key in ("$defs", "definitions") if key in root}
        options = {**OPTIONS, "json_allowed_escapes": _COMPACT_ESCAPES}
        return self.rule("%json " + json.dumps({**shared, **schema, "x-guidance": options}))

    def text(
        self, close: str, kinds: Iterable[str], without: Sequence[str], never: Sequence[str] = ()
    ) -> str:
        """Text as it stands, of all of `kinds` (terminals), up to and including `close`.

        `without`: what may not stand anywhere in it; `never`: terminals of which it may be none.
        """
        barred = [f"~({ANY_TEXT} {quoted(part)} {ANY_TEXT})" for part in without]
        body = " & ".join([*kinds, *barred, *(f"~{kind}" for kind in never)])
        text = self.terminal(body)
        if not close or self.is_marked(close):
            return self.rule(f"{text} {self.spelled(close)}" if close else text)
        # The lexer takes all that it can, so a text has to end where its close first stands: hence `lazy`.
        return self.rule(self.terminal(f"{text} {quoted(close)}"), "[lazy]")

    def written(self, start: str) -> str:
        return "\n".join([f"start: {start}", *(line for line in self._lines if line)])


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
