"""From tokens to text, token by token, in whole characters only."""

import codecs
import re
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from typing import Protocol

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
"""How SentencePiece writes a space inside a token."""

_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>\Z")


class Spelling(Enum):
    """How a tokenizer writes the bytes that a token stands for."""

    BYTE_LEVEL = auto()
    """Each byte as one printable character (GPT-2 and its heirs)."""
    SENTENCEPIECE = auto()
    """As text, with its own sign for a space and `<0xAB>` for single bytes."""
    OPAQUE = auto()
    """Only the tokenizer itself can tell."""


def byte_alphabet() -> dict[str, int]:
    """GPT-2's characters for bytes: printable ones stand for themselves, the others for U+0100 and up."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {chr(byte): byte for byte in printable}
    others = (byte for byte in range(0x100) if byte not in set(printable))
    alphabet.update({chr(0x100 + place): byte for place, byte in enumerate(others)})
    return alphabet


def token_bytes(pieces: Sequence[str], added: Mapping[str, int], spelling: Spelling) -> list[bytes]:
    """The bytes of each token, by id; tokens that were added to the vocabulary are literal text.

    `pieces` are the tokens as the tokenizer writes them; `spelling` is not OPAQUE.
    """
    literal = set(added.values())
    alphabet = byte_alphabet()
    table = []
    for token, piece in enumerate(pieces):
        if spelling is Spelling.SENTENCEPIECE:
            table.append(_sentencepiece_bytes(piece, token in literal))
        elif token in literal or any(character not in alphabet for character in piece):
            table.append(piece.encode())
        else:
            table.append(bytes(alphabet[character] for character in piece))
    return table


def _sentencepiece_bytes(piece: str, literal: bool) -> bytes:
    if byte := _BYTE_PIECE.match(piece):
        return bytes((int(byte[1], 16),))
    return (piece if literal else piece.replace(SPACE, " ")).encode()


class Detokenizer(Protocol):
    """Turns one sequence's tokens into text."""

    def add(self, token: int) -> str:
        """The whole characters that this token completes."""

    def finish(self) -> str:
        """What was held back, with a sign in place of a character that never became whole."""


class Vocabulary:
    """The bytes of every token, where the tokenizer's spelling is known."""

    def __init__(self, table: Sequence[bytes], trims: bool = False) -> None:
        """`trims`: an answer's very first space belongs to the tokenizer, not to the text."""
        self._table = table
        self.trims = trims

    def bytes_of(self, token: int) -> bytes:
        """Empty for ids that models have beyond their tokenizer's."""
        return self._table[token] if 0 <= token < len(self._table) else b""

    def detokenizer(self, continues: bool) -> "ByteDetokenizer":
        """For one sequence. `continues`: its first token goes on in the middle of a text."""
        return ByteDetokenizer(self, trim=self.trims and not continues)


class ByteDetokenizer:
    """Joins the tokens' bytes and lets whole characters through. Costs the same for each token."""

    def __init__(self, vocabulary: Vocabulary, trim: bool) -> None:
        self._bytes_of = vocabulary.bytes_of
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._trim = trim

    def add(self, token: int) -> str:
        return self._trimmed(self._decode(self._bytes_of(token)))

    def finish(self) -> str:
        return self._trimmed(self._decode(b"", True))

    def _trimmed(self, text: str) -> str:
        if self._trim and text:
            self._trim = False
            return text.removeprefix(" ")
        return text


class WindowDetokenizer:
    """For tokenizers that only decode whole lists: decodes a short window twice and shows the difference.

    The window begins a few tokens early, as many tokenizers treat a list's first token differently.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._window: list[int] = []
        self._shown = 0
        """Tokens of the window whose text was given out."""

    def add(self, token: int) -> str:
        self._window.append(token)
        old = self._decode(self._window[: self._shown])
        new = self._decode(self._window)
        if len(new) <= len(old) or new.endswith(REPLACEMENT):
            return ""
        self._window = self._window[self._shown :]
        self._shown = len(self._window)
        return new[len(old) :]

    def finish(self) -> str:
        old = self._decode(self._window[: self._shown])
        return self._decode(self._window)[len(old) :]
