"""What can still be used of a message that a newer version wrote.

A fact of an unknown kind must not look like a lost update: its reader would ask for it again and again.
And a command that nobody understands is refused at once rather than left to its deadline.
"""

from typing import Final, NamedTuple

import msgspec

from bus.codec import Bytes
from bus.messages.envelope import Notice
from bus.messages.facts import Fact, Snapshot, Update, Updates

_NONE: Final = msgspec.Raw(b"\xc0")


class Unanswerable(NamedTuple):
    """A command whose body can't be read; its number is all that is needed to refuse it."""

    number: int


class _Command(msgspec.Struct, tag="Command", tag_field="type"):
    number: int


class _Update(msgspec.Struct, tag="Update", tag_field="type"):
    session: str
    number: int
    key: str
    fact: msgspec.Raw = _NONE


class _Updates(msgspec.Struct, tag="Updates", tag_field="type"):
    session: str
    updates: tuple[_Update, ...] = ()


class _Snapshot(msgspec.Struct, tag="Snapshot", tag_field="type"):
    session: str
    number: int
    facts: dict[str, msgspec.Raw] = {}


class _Notice(msgspec.Struct, tag="Notice", tag_field="type"):
    body: _Updates | _Snapshot


_commands_and_notices: Final[msgspec.msgpack.Decoder[_Command | _Notice]] = msgspec.msgpack.Decoder(
    _Command | _Notice
)
_updates: Final = msgspec.msgpack.Decoder(_Update)
_facts: Final[msgspec.msgpack.Decoder[Fact | None]] = msgspec.msgpack.Decoder(Fact | None)


def salvage_news(data: Bytes) -> Update | None:
    """The update without its fact, as if the key had been withdrawn: nothing is better than an old value."""
    try:
        return _update(_updates.decode(data))
    except (ValueError, RecursionError):
        return None


def salvage_envelope(data: Bytes) -> Notice | Unanswerable | None:
    """The notice without the facts in it that can't be read, or the number of an unreadable command."""
    try:
        message = _commands_and_notices.decode(data)
    except (ValueError, RecursionError):
        return None
    match message:
        case _Command():
            return Unanswerable(message.number)
        case _Notice():
            return Notice(_body(message.body))


def _body(body: _Updates | _Snapshot) -> Updates | Snapshot:
    match body:
        case _Updates():
            return Updates(body.session, tuple(_update(update) for update in body.updates))
        case _Snapshot():
            known = {key: fact for key, raw in body.facts.items() if (fact := _fact(raw)) is not None}
            return Snapshot(body.session, body.number, known)


def _update(update: _Update) -> Update:
    return Update(update.session, update.number, update.key, _fact(update.fact))


def _fact(raw: msgspec.Raw) -> Fact | None:
    try:
        return _facts.decode(raw)
    except (ValueError, RecursionError):
        return None
