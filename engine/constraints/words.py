"""A model's vocabulary as grammars see it: the bytes of each token, and which tokens are no text."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from llguidance import LLTokenizer, TokenizerWrapper

from engine.constraints.errors import GrammarError
from engine.text.detokenizer import Spelling, token_bytes
from engine.text.markers import CallMarkers, Thinking
from engine.text.reply import Splitter


class Source(Protocol):
    """The part of a tokenizer that grammars need."""

    @property
    def eos(self) -> frozenset[int]: ...
    @property
    def special(self) -> frozenset[int]:
        """Added tokens that are markers for the model, not text."""

    @property
    def thinking(self) -> Thinking | None: ...
    @property
    def call_markers(self) -> CallMarkers | None: ...
    @property
    def markers(self) -> Sequence[str]:
        """Every text that mlx-lm takes out of an answer, and those that structure a model's output."""

    def __len__(self) -> int: ...
    def pieces(self) -> list[str]: ...
    def added(self) -> dict[str, int]: ...
    def spelling(self) -> tuple[Spelling, bool]: ...
    def encode_plainly(self, text: str) -> list[int]:
        """Without the tokens that the tokenizer puts around a text."""

    def splitter(self, tools: bool, reasoning: bool) -> Splitter: ...


@dataclass(frozen=True, eq=False)
class Words:
    """All tokens of a model by id, with those told apart that only a marker may be."""

    table: tuple[bytes, ...]
    marks: Mapping[str, int]
    """Tokens that are markers, by their text: no grammar's text matches them, it has to name them."""
    eos: frozenset[int]
    encode: Callable[[str], list[int]]

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def tokenizer(self) -> LLTokenizer:
        """The library's own form of it: a trie over all tokens, about a second's work for 128k of them."""
        return LLTokenizer(TokenizerWrapper(_Tokens(self)), n_vocab=len(self), eos_token=sorted(self.eos))

    @cached_property
    def line_breaks(self) -> frozenset[int]:
        """The tokens that are one line break, or two."""
        return frozenset(token for token, text in enumerate(self.table) if text in (b"\n", b"\n\n"))

    def tokens_of(self, text: str) -> list[int]:
        """A text as the model would write it, its markers included."""
        parts = self._cut.split(text) if self.marks else [text]
        return [token for part in parts if part for token in self._part(part)]

    def plainly(self, text: str) -> list[int]:
        """A text without markers, as tokens of exactly these bytes.

        Some tokenizers put a space before all that they are given; then the longest tokens that fit
        are taken.
        """
        tokens = self.encode(text)
        spelled = b"".join(self.table[token] for token in tokens)
        if spelled == text.encode() and not self.marked.intersection(tokens):
            return tokens
        return self._longest(text.encode())

    def _part(self, part: str) -> list[int]:
        return [self.marks[part]] if part in self.marks else self.plainly(part)

    def _longest(self, text: bytes) -> list[int]:
        tokens, place = [], 0
        while place < len(text):
            ends = range(min(len(text), place + self._longest_token), place, -1)
            end = next((end for end in ends if text[place:end] in self._ids), None)
            if end is not None:
                tokens.append(self._ids[text[place:end]])
            place = end or place + 1
        return tokens

    @cached_property
    def marked(self) -> frozenset[int]:
        """Tokens that are no text."""
        return frozenset({*self.marks.values(), *self.eos})

    @cached_property
    def _ids(self) -> dict[bytes, int]:
        return {text: token for token, text in enumerate(self.table) if token not in self.marked}

    @cached_property
    def _longest_token(self) -> int:
        return max(map(len, self._ids), default=0)

    def spelled(self, text: str) -> str:
        """A text as a grammar names it, in Lark's syntax: markers by their ids, all else as it stands."""
        parts = self._cut.split(text) if self.marks else [text]
        named = (f"<[{self.marks[part]}]>" if part in self.marks else quoted(part) for part in parts if part)
        return " ".join(named) or '""'

    @cached_property
    def _cut(self) -> re.Pattern[str]:
        longest = sorted(self.marks, key=len, reverse=True)
        return re.compile("(" + "|".join(map(re.escape, longest)) + ")")


class _Tokens:
    """What llguidance's TokenizerWrapper asks for."""

    def __init__(self, words: Words) -> None:
        self.eos_token_id = min(words.eos)
        self.bos_token_id = None
        self.tokens = words.table
        self.special_token_ids = sorted(words.marked)
        self._words = words

    def __call__(self, text: str) -> list[int]:
        if not isinstance(text, str):
            raise TypeError("takes text only")  # this is how the wrapper finds out
        return self._words.plainly(text)


def words_of(source: Source, syntax: str = "") -> Words:
    """`syntax`: all that the model's calls are written with; tokens that stand there are markers, too.

    Raises GrammarError for a tokenizer of which it is not known which bytes its tokens stand for.
    """
    spelling, _ = source.spelling()
    if spelling is Spelling.OPAQUE:
        raise GrammarError(
            "this model's answers can't be held to a format: its tokenizer does not say which text a token "
            "stands for"
        )
    if not source.eos:
        raise GrammarError("this model's answers can't be held to a format: it has no token that ends one")
    added = source.added()
    marks = {
        text: token
        for text, token in added.items()
        if text and (token in source.special or text in source.markers or (len(text) > 2 and text in syntax))
    }
    table = token_bytes(source.pieces(), added, spelling)
    return Words(tuple(table), marks, source.eos, source.encode_plainly)


def quoted(text: str) -> str:
    r"""A string in Lark's syntax.

    >>> print(quoted('say "a\\b"'))
    "say \"a\\b\""
    """
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t") + '"'
