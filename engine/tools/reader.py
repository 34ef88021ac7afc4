"""Reads tool calls while they arrive: a name as soon as it is known, then the arguments as they come."""

import json
import re
from collections.abc import Sequence
from typing import Final, Protocol, cast

from engine.tools.calls import Begun, Call, Done, More, Parse, Piece, Stray, Unread, as_json
from engine.tools.json_text import JsonText
from engine.tools.layouts import ArgumentLayout, Layout, ObjectLayout

_WORD: Final = re.compile(r"[^\W\d_]{2,}")

LONGEST_HEAD: Final = 4096
"""Characters: where no call has begun after so many, there is none that could be told early."""


class _Body(Protocol):
    """The arguments of one call."""

    @property
    def over(self) -> bool:
        """The call has ended; what follows it is in `rest`."""

    @property
    def rest(self) -> str:
        """Came, but was not told."""

    def feed(self, text: str) -> list[Piece]: ...

    def completed(self, arguments: str) -> str | None:
        """What is missing where a parser reads these arguments in the whole; None: they don't go on from what
        was told, or are not all of it. Else, what is in `rest` then belongs to no call."""

    def closed(self) -> str | None:
        """What is missing where the call just stops after what was told; None: it can't stop there."""


class SectionReader:
    """Reads what stands between one pair of markers, in a form whose layout is known.

    A call is told as soon as its name is known; a tail of it that can't be read is told as more of its
    arguments, just as it was written. Where no call begins, the format's parser looks at it all in the end.
    """

    def __init__(self, parse: Parse, layout: Layout) -> None:
        self._parse = parse
        self._layout = layout
        self._texts: list[str] = []
        """All of it."""
        self._waiting = ""
        """What no call has begun in."""
        self._body: _Body | None = None
        self._names: list[str] = []
        """Of the calls that were begun."""
        self._unclear = False
        """What comes now is left to the parser."""

    def feed(self, text: str) -> list[Piece]:
        self._texts.append(text)
        pieces: list[Piece] = []
        if self._body is not None:
            self._go_on(self._body, text, pieces)
        else:
            self._waiting += text
        while self._body is None and not self._unclear and self._begin(pieces):
            pass
        return pieces

    def finish(self, ended: bool) -> list[Piece]:
        text = "".join(self._texts)
        found = _found(self._parse, text)
        if not self._names:
            return _whole(found) if found and self._keeps(text, found) else [Unread(text)]
        if [call.name for call in found[: len(self._names)]] != self._names:
            found = ()
        later = _whole(found[len(self._names) :])
        if self._body is not None:
            return self._completed(self._body, found, later, ended)
        if later or (found and self._layout.exact):
            return later
        return self._stray(self._waiting)

    def _keeps(self, text: str, found: Sequence[Call]) -> bool:
        """Whether all words of a text are in the calls that a parser found in it; many pass over the rest."""
        if isinstance(self._layout, ObjectLayout) or _is_json(text):
            return True  # which is read whole or not at all
        said = " ".join(f"{call.name} {call.arguments}" for call in found)
        return all(word in said for word in _WORD.findall(text))

    def _begin(self, pieces: list[Piece]) -> bool:
        """Look for the beginning of a call; true if there was one, and its end."""
        head = self._layout.head.search(self._waiting)
        if head is None:
            self._unclear = len(self._waiting) > LONGEST_HEAD
            return False
        group = "head" if "head" in head.re.groupindex else 0
        beginning = self._layout.start + head[group]
        name = self._name(beginning)
        if name is None:
            self._unclear = True
            return False
        pieces += [*self._stray(self._waiting[: head.start(group)]), Begun(name)]
        self._names.append(name)
        self._body = self._body_of(beginning)
        text, self._waiting = self._waiting[head.end() :], ""
        return self._go_on(self._body, text, pieces)

    def _stray(self, text: str) -> list[Piece]:
        return [] if self._layout.filler.fullmatch(text) else [Stray(text)]

    def _name(self, head: str) -> str | None:
        calls = _found(self._parse, head + self._layout.probe)
        return calls[0].name if len(calls) == 1 else None

    def _body_of(self, head: str) -> _Body:
        match self._layout:
            case ObjectLayout():
                return _ObjectBody()
            case ArgumentLayout() as layout:
                return _ArgumentBody(self._parse, layout, head)

    def _go_on(self, body: _Body, text: str, pieces: list[Piece]) -> bool:
        """Take more of a call's arguments; true if they end."""
        pieces += body.feed(text)
        if not body.over:
            return False
        pieces.append(Done())
        self._waiting, self._body = body.rest, None
        return True

    def _completed(self, body: _Body, found: Sequence[Call], later: list[Piece], ended: bool) -> list[Piece]:
        """What is missing of the call that is open, and the calls after it; or else its tail as it is."""
        missing = body.completed(found[len(self._names) - 1].arguments) if found else None
        if missing is None and ended:
            missing = body.closed()
        if missing is None:
            return [More(body.rest), Done()] if ended else [More(body.rest)]
        return [More(missing), Done(), *(self._stray(body.rest) or later)]


class WholeReader:
    """Reads what stands between one pair of markers when all of it is there."""

    def __init__(self, parse: Parse) -> None:
        self._parse = parse
        self._texts: list[str] = []

    def feed(self, text: str) -> list[Piece]:
        self._texts.append(text)
        return []

    def finish(self, ended: bool) -> list[Piece]:
        text = "".join(self._texts)
        return _whole(_found(self._parse, text)) or [Unread(text)]


class _ObjectBody:
    """Arguments that are one JSON object: told as they are written."""

    def __init__(self) -> None:
        self._object = JsonText()
        self._told = ""

    @property
    def over(self) -> bool:
        return self._object.over

    @property
    def rest(self) -> str:
        return self._object.rest

    def feed(self, text: str) -> list[Piece]:
        certain = self._object.feed(text)
        self._told += certain
        return [More(certain)] if certain else []

    def completed(self, arguments: str) -> str | None:
        # A parser may take what is no JSON, such as Python's True: then the rest is told as JSON has it.
        if not arguments.startswith(self._told):
            return None
        self._object.rest = ""
        return arguments.removeprefix(self._told)

    def closed(self) -> str | None:
        return None


class _ArgumentBody:
    """Arguments that are written one by one: each is told when it is whole."""

    def __init__(self, parse: Parse, layout: ArgumentLayout, head: str) -> None:
        self._parse = parse
        self._layout = layout
        self._head = head
        self._cutter = layout.cutter()
        self._told: dict[str, object] = {}
        self._broken = False
        self.over = False
        self.rest = ""

    def feed(self, text: str) -> list[Piece]:
        self.rest += text
        pieces: list[Piece] = []
        while not (self.over or self._broken) and (cut := self._cutter.find(self.rest)) is not None:
            between, part = self.rest[: cut.begin], self.rest[cut.begin : cut.end]
            if cut.last:
                self.over = True
                pieces.append(More("}" if self._told else "{}"))
            elif part.strip():
                values = self._values(part)
                if values is None:
                    self._broken = True
                    break
                pieces.append(More(self._further(values)))
            if between.strip():
                pieces.append(Stray(between))
            self.rest = self.rest[cut.after :]
        return pieces

    def completed(self, arguments: str) -> str | None:
        values = cast("dict[str, object]", json.loads(arguments))
        return self.closed() if values == self._told else None

    def closed(self) -> str | None:
        if self._broken or self._cutter.begun(self.rest):
            return None  # what was written there would be lost
        return "}" if self._told else "{}"

    def _values(self, argument: str) -> dict[str, object] | None:
        """One argument's name and value, as the parser reads them in a call with no other; None: it can't."""
        if not self._layout.argument.fullmatch(argument):
            return None
        calls = _found(self._parse, self._head + argument + self._layout.end)
        if len(calls) != 1:
            return None
        values = cast("dict[str, object]", json.loads(calls[0].arguments))
        return values if len(values) == 1 or self._layout.blocks else None

    def _further(self, values: dict[str, object]) -> str:
        """As more text of the object that was begun."""
        if not values:
            return ""
        text = (", " if self._told else "{") + as_json(values)[1:-1]
        self._told |= values
        return text


def _found(parse: Parse, text: str) -> Sequence[Call]:
    try:
        return parse(text)
    except ValueError:
        return ()


def _whole(calls: Sequence[Call]) -> list[Piece]:
    return [piece for call in calls for piece in (Begun(call.name), More(call.arguments), Done())]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
