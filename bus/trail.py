"""How a prompt begins, as a chain of hashes: two prompts share as much of their trails as they begin alike.

Who keeps what was computed of a prompt says so with the prompt's trail, and who looks for a place for another
one compares. A trail says nothing about the text to who does not have it, and is the same on every machine
and in every version of Python.
"""

import struct
from collections.abc import Iterator, Sequence, Set
from hashlib import blake2b
from typing import Final, assert_never

from bus.messages.generation import ChatMessage, ChatPrompt, InfillPrompt, Prompt, TextPrompt, TokenPrompt
from bus.volatile import steady

TEXT_STRIDE: Final = 1024
"""Characters between two marks in a text."""

TOKEN_STRIDE: Final = 256
"""Tokens between two marks."""

FIRST: Final = 8
"""Marks that are kept of how a prompt begins, where there are too many: system prompts are shared."""

LAST: Final = 24
"""Marks that are kept of its end: a conversation goes on there."""

BETWEEN: Final = 32
"""Marks that are kept between those, at most."""

_63_BITS: Final = 2**63 - 1
_PACKED: Final = struct.Struct(f"<{TOKEN_STRIDE}q")


def trail_of(prompt: Prompt) -> tuple[int, ...]:
    """A 63-bit hash of each beginning of a prompt that is worth comparing, the shortest one first.

    A chat has one for its tools, if it has any, and one for each message; a text one for every TEXT_STRIDE
    characters, tokens one for every TOKEN_STRIDE. At most FIRST + BETWEEN + LAST are told. Which of a long
    trail's are left out hangs on their place alone, so that a conversation that has grown still has marks
    in common with what it was.
    """
    return _thinned(tuple(_chained(_pieces(prompt))))


def shared(trail: tuple[int, ...], kept: Set[int]) -> int:
    """How far down a trail somebody is who keeps those marks: 0 is not at all, its length all the way."""
    return next((place for place in range(len(trail), 0, -1) if trail[place - 1] in kept), 0)


def _chained(pieces: Iterator[Sequence[bytes]]) -> Iterator[int]:
    """What the first piece says is part of every mark, and has none of its own."""
    hasher = blake2b(_framed(next(pieces)), digest_size=8)
    for piece in pieces:
        hasher.update(_framed(piece))
        yield int.from_bytes(hasher.digest(), "big") & _63_BITS


def _framed(piece: Sequence[bytes]) -> bytes:
    """With the parts' lengths before them: the same letters in other fields are another piece."""
    return struct.pack(f"<{len(piece) + 1}Q", len(piece), *map(len, piece)) + b"".join(piece)


def _pieces(prompt: Prompt) -> Iterator[Sequence[bytes]]:
    match prompt:
        case ChatPrompt():
            yield from _of_chat(prompt)
        case TextPrompt(text=text):
            yield [b"text"]
            yield from _of_text(text)
        case TokenPrompt(tokens=tokens):
            yield [b"tokens"]
            whole = range(TOKEN_STRIDE, len(tokens) + 1, TOKEN_STRIDE)
            yield from ([_PACKED.pack(*tokens[end - TOKEN_STRIDE : end])] for end in whole)
        case InfillPrompt(prefix=prefix, suffix=suffix):
            yield [b"infill"]
            yield from _of_text(f"{prefix}\0{suffix}")
        case _:
            assert_never(prompt)


def _of_chat(prompt: ChatPrompt) -> Iterator[Sequence[bytes]]:
    thinking = "" if prompt.thinking is None else str(prompt.thinking)
    yield [b"chat", *map(_bytes, (prompt.template_options, thinking, prompt.effort or ""))]
    if prompt.tools:
        yield [_bytes(tool) for tool in prompt.tools]
    yield from map(_of_message, steady(prompt.messages))


def _of_message(message: ChatMessage) -> Sequence[bytes]:
    """An empty text and none are the same: clients send back either for an answer that was only a call."""
    fields = (message.role, message.content, message.reasoning, message.name, message.tool_call_id)
    calls = [part for call in message.tool_calls for part in (call.id, call.name, call.arguments)]
    return [_bytes(field or "") for field in (*fields, *calls)]


def _of_text(text: str) -> Iterator[Sequence[bytes]]:
    whole = range(TEXT_STRIDE, len(text) + 1, TEXT_STRIDE)
    return ([_bytes(text[end - TEXT_STRIDE : end])] for end in whole)


def _bytes(text: str) -> bytes:
    """Half of a surrogate pair may come in with a client's JSON."""
    return text.encode("utf-8", "surrogatepass")


def _thinned(marks: tuple[int, ...]) -> tuple[int, ...]:
    """The first, the last, and between them every second, fourth, eighth, … as it takes."""
    between = len(marks) - FIRST - LAST
    if between <= BETWEEN:
        return marks
    stride = 1
    while between > BETWEEN * stride:
        stride *= 2
    middle = (place for place in range(FIRST, len(marks) - LAST) if place % stride == 0)
    return (*marks[:FIRST], *(marks[place] for place in middle), *marks[-LAST:])
