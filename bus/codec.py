"""Messages to bytes and back: MessagePack maps through msgspec, with a limit on their size."""

from collections.abc import Iterator
from typing import Final, TypeAlias, TypeVar, get_args

import msgspec

from bus.counts import Count
from bus.errors import TooLarge
from bus.messages.base import Message
from bus.messages.envelope import Body, Envelope
from bus.messages.facts import Fact, Head, Update
from bus.messages.generation import Prompt

MESSAGE_LIMIT: Final = 16 * 1024 * 1024
"""Bytes. A prompt of a million tokens takes about 5 MB, as ids or as text."""

News: TypeAlias = Update | Head
"""What travels on the topic of facts."""

M = TypeVar("M")

Bytes: TypeAlias = bytes | memoryview

_encoder: Final = msgspec.msgpack.Encoder()
_envelopes: Final[msgspec.msgpack.Decoder[Envelope]] = msgspec.msgpack.Decoder(Envelope)
_news: Final[msgspec.msgpack.Decoder[News]] = msgspec.msgpack.Decoder(News)


class Undecodable(Exception):
    """Bytes that are no message, and which kind of drop that is."""

    def __init__(self, count: Count, detail: str) -> None:
        super().__init__(detail)
        self.count = count
        self.detail = detail


def encode(message: Message) -> bytes:
    """The message's bytes. Raises TooLarge."""
    data = _encoder.encode(message)
    if len(data) > MESSAGE_LIMIT:
        name = type(message).__name__
        raise TooLarge(f"{name} of {len(data):,} bytes: the bus carries at most {MESSAGE_LIMIT:,}")
    return data


def decode_envelope(data: Bytes) -> Envelope:
    """What came over ROUTER or DEALER. Raises Undecodable."""
    return _decode(_envelopes, data, _ENVELOPES)


def decode_news(data: Bytes) -> News:
    """What came on the topic of facts. Raises Undecodable."""
    return _decode(_news, data, _NEWS)


def _decode(decoder: msgspec.msgpack.Decoder[M], data: Bytes, expected: frozenset[str]) -> M:
    if len(data) > MESSAGE_LIMIT:
        raise Undecodable(Count.OVERSIZED, f"{len(data):,} bytes, of at most {MESSAGE_LIMIT:,}")
    try:
        return decoder.decode(data)
    # A string that is not UTF-8 is a plain ValueError, and a million brackets end in a RecursionError.
    except (ValueError, RecursionError) as error:
        raise Undecodable(_why(data, expected), str(error)) from None


# -- why it does not decode ------------------------------------------------------------------------


class _Outline(msgspec.Struct):
    """The types that a message is made of, and nothing else of it."""

    type: str
    body: "_Outline | None" = None
    prompt: "_Outline | None" = None
    fact: "_Outline | None" = None
    updates: "tuple[_Outline, ...]" = ()
    facts: "dict[str, _Outline]" = {}


def _names(*unions: object) -> frozenset[str]:
    return frozenset(kind.__name__ for union in unions for kind in get_args(union))


_outlines: Final = msgspec.msgpack.Decoder(_Outline)
_ENVELOPES: Final = _names(Envelope)
_NEWS: Final = _names(News)
_PARTS: Final = _names(Body, Prompt, Fact, News)


def _why(data: Bytes, expected: frozenset[str]) -> Count:
    try:
        outline = _outlines.decode(data)
    except (ValueError, RecursionError):
        return Count.MALFORMED
    known = outline.type in expected and all(part.type in _PARTS for part in _parts(outline))
    return Count.MALFORMED if known else Count.UNKNOWN_TYPE


def _parts(outline: _Outline) -> Iterator[_Outline]:
    inner = (outline.body, outline.prompt, outline.fact, *outline.updates, *outline.facts.values())
    for part in inner:
        if part is not None:
            yield part
            yield from _parts(part)
