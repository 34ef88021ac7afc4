"""A call as a model wrote it, and what a reader tells of calls while they arrive."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias, cast

_SURROGATES: Final = range(0xD800, 0xE000)
_KNOWN: Final = frozenset({"name", "id", "type"})
"""What a call may have besides its arguments, and nothing is lost with."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call as a model wrote it. `arguments` is a JSON object, as text."""

    name: str
    arguments: str


Parse: TypeAlias = Callable[[str], Sequence[Call]]
"""Reads the calls in what stands between a format's markers; raises ValueError where there are none."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A call begins."""

    name: str


@dataclass(frozen=True, slots=True)
class More:
    """More of the arguments of the call that was begun last."""

    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """That call is complete."""


@dataclass(frozen=True, slots=True)
class Stray:
    """Text that belongs to no call."""

    text: str


@dataclass(frozen=True, slots=True)
class Unread:
    """All that stood between the markers is no call."""

    text: str


Piece: TypeAlias = Begun | More | Done | Stray | Unread


class CallReader(Protocol):
    """Reads what stands between one pair of markers. Nothing of its text is lost, whatever it is."""

    def feed(self, text: str) -> list[Piece]:
        """Take more of it."""

    def finish(self, ended: bool) -> list[Piece]:
        """It is over: by its end marker, or else (`ended` is false) because the answer is."""


def as_call(name: object, arguments: object) -> Call:
    """Check what a model's parser found. Raises ValueError."""
    if not isinstance(name, str) or not name or _has_surrogates(name):
        raise ValueError("a call without a name")
    if isinstance(arguments, str):
        arguments = json.loads(arguments)
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        raise ValueError("a call's arguments are no object")
    return Call(name, as_json(arguments))


def as_json(value: object) -> str:
    """As text; half characters, which no message can carry, stay the escapes that they came as."""
    text = json.dumps(value, ensure_ascii=False)
    return json.dumps(value) if _has_surrogates(text) else text


def calls_in(found: object) -> list[Call]:
    """What a parser of mlx-lm returned: a call or a list of calls. Raises ValueError."""
    listed = cast("Iterable[object]", found if isinstance(found, list) else [found])
    calls = []
    for each in listed:
        if not isinstance(each, Mapping):
            raise ValueError("a call that is no object")
        if "arguments" not in each and each.keys() - _KNOWN:
            raise ValueError("a call with arguments under another name")
        calls.append(as_call(each.get("name"), each.get("arguments")))
    if not calls:
        raise ValueError("no call")
    return calls


def _has_surrogates(text: str) -> bool:
    return not text.isascii() and any(ord(character) in _SURROGATES for character in text)
