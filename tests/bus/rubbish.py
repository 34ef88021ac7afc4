"""Bytes that are no messages: made up, or messages with a few bytes changed."""

import random
from collections.abc import Iterator


def rubbish(source: random.Random, count: int) -> Iterator[bytes]:
    """Up to 300 random bytes at a time; the empty message is among them."""
    yield b""
    for _ in range(count - 1):
        yield source.randbytes(source.randrange(300))


def mutated(source: random.Random, data: bytes) -> bytes:
    """The message cut short, or with one to four of its bytes changed, left out or doubled."""
    changed = bytearray(data)
    if source.random() < 0.2:
        return bytes(changed[: source.randrange(len(changed))])
    for _ in range(source.randint(1, 4)):
        at = source.randrange(len(changed))
        match source.randrange(3):
            case 0:
                changed[at] = source.randrange(256)
            case 1:
                del changed[at]
            case _:
                changed.insert(at, changed[at])
    return bytes(changed)
