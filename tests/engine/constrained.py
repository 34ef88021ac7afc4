"""Answers of a model that picks any allowed token: what a format lets through, and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from typing import Protocol, cast

import numpy as np
from mlx_lm.generate import TextStateMachine
from tokenizers import Tokenizer

from bus.messages.generation import Format
from engine.constraints.constraint import Constraint
from engine.constraints.grammars import Grammars
from engine.constraints.masks import fill
from engine.text.detokenizer import Spelling
from engine.text.markers import CallMarkers, Thinking
from engine.text.reply import Channel, Segment, Splitter

GUIDE = Path(__file__).parent.parent.parent / "models" / "guide"

_Edges = dict[str, list[tuple[str, str]]]


_State = tuple[str, object, object, str]


class _Machine(Protocol):
    def make_state(self, initial: str) -> _State: ...


@cache
def guide() -> Tokenizer:
    """The built-in model's tokenizer."""
    return Tokenizer.from_file(str(GUIDE / "tokenizer.json"))


class TextSplitter:
    """mlx-lm's TextStateMachine on one answer."""

    def __init__(self, edges: _Edges, start: str) -> None:
        self._state = cast(_Machine, TextStateMachine(edges)).make_state(start)

    @property
    def channel(self) -> Channel:
        return _CHANNELS[self._state[0]]

    @property
    def held(self) -> int:
        return len(self._state[3])

    def split(self, text: str) -> list[Segment]:
        self._state, segments = TextStateMachine.split(self._state, text)
        return [Segment(_CHANNELS[state], part) for state, part in segments]

    def flush(self) -> str:
        self._state, text, _ = TextStateMachine.flush(self._state)
        return str(text)


_CHANNELS = {
    "normal": Channel.CONTENT,
    "reasoning": Channel.REASONING,
    "tool": Channel.TOOL,
    "header": Channel.HIDDEN,
}


@dataclass
class FakeSource:
    """The built-in model's vocabulary with markers of other models, and more than one end of an answer."""

    markers: Sequence[str] = ()
    tokens: Sequence[str] = ()
    """Markers that are one token each."""
    thinking_markers: tuple[str, str] | None = None
    call_markers: CallMarkers | None = None
    edges: _Edges = field(default_factory=dict)
    start: str = "normal"
    alphabet: str = ""
    """All characters that its text may have; empty: those of the built-in model."""

    def __post_init__(self) -> None:
        base = guide()
        self._added = {token.content: id for id, token in base.get_added_tokens_decoder().items()}
        self._pieces = [base.id_to_token(id) or "" for id in range(base.get_vocab_size())]
        if self.alphabet:
            self._pieces = [*self._pieces[:1], *self.alphabet]
            self._added = {self._pieces[0]: 0}
        for text in ("<|stop|>", *self.tokens):
            if text not in self._added:
                self._added[text] = len(self._pieces)
                self._pieces.append(text)
        self.eos = frozenset({0, self._added["<|stop|>"]})
        self.special = frozenset(self._added.values())

    @property
    def thinking(self) -> Thinking | None:
        if self.thinking_markers is None:
            return None
        start, end = map(self.encode_plainly, self.thinking_markers)
        return Thinking(tuple(start), tuple(end))

    def __len__(self) -> int:
        return len(self._pieces)

    def pieces(self) -> list[str]:
        return self._pieces

    def added(self) -> dict[str, int]:
        return self._added

    def spelling(self) -> tuple[Spelling, bool]:
        return Spelling.BYTE_LEVEL, False

    def encode_plainly(self, text: str) -> list[int]:
        for marker in sorted(self._added, key=len, reverse=True):
            before, found, after = text.partition(marker)
            if found:
                return [*self.encode_plainly(before), self._added[marker], *self.encode_plainly(after)]
        if self.alphabet:
            return [self._pieces.index(character) for character in text if character in self._pieces]
        return list(guide().encode(text, add_special_tokens=False).ids)

    def splitter(self, tools: bool, reasoning: bool) -> Splitter:
        normal, thinks = list[tuple[str, str]](), list[tuple[str, str]]()
        edges: _Edges = {"normal": normal, "reasoning": thinks, "tool": []}
        if self.thinking_markers is not None:
            normal.append((self.thinking_markers[0], "reasoning"))
            thinks.append((self.thinking_markers[1], "normal"))
        if tools and self.call_markers is not None:
            normal.append((self.call_markers.start, "tool"))
            if self.call_markers.end:
                edges["tool"] = [(self.call_markers.end, "normal")]
            if self.thinking_markers is not None:
                thinks.append((self.call_markers.start, "tool"))
        edges = {**edges, **self.edges}
        return TextSplitter(edges, "reasoning" if reasoning else self.start)


def plain() -> Grammars:
    return Grammars(FakeSource())


class Walker:
    """A model without sense: any allowed token, but fond of what closes something."""

    def __init__(self, grammars: Grammars, closes: Sequence[str] = (), fond_of: str = '"}])>') -> None:
        """`closes`: longer texts that it tries to write now and then."""
        self.words = grammars._ready()
        self._closes = [self.words.encode(text) for text in closes]
        closing = {ord(character) for character in fond_of}
        marks = {*self.words.marks.values(), *self.words.eos}
        weights = [
            40.0 if token in marks or (text and text[0] in closing) else 1.0
            for token, text in enumerate(self.words.table)
        ]
        self._weights = np.array(weights)

    def allowed(self, constraint: Constraint) -> list[int]:
        masks = fill([constraint])
        assert masks.allowed is not None
        return [int(token) for token in np.flatnonzero(masks.allowed[0])]

    def walk(self, constraint: Constraint, seed: int, most: int = 900) -> list[int]:
        """Tokens until the end of the answer, which is among them."""
        random, tokens, meant = Random(seed), list[int](), list[int]()
        while len(tokens) < most:
            allowed = self.allowed(constraint)
            assert constraint.failure is None, (constraint.failure, self.text(tokens))
            if not meant and self._closes and random.random() < 0.3:
                meant = list(random.choice(self._closes))
            if meant and meant[0] in allowed:
                token = meant.pop(0)
            else:
                meant = []
                weights = self._weights[allowed] ** (1 + len(tokens) / 100)
                token = random.choices(allowed, weights.tolist())[0]
            tokens.append(token)
            constraint.take(token)
            assert constraint.failure is None, (constraint.failure, self.text(tokens))
            if token in self.words.eos:
                return tokens
        raise AssertionError(f"no end after {most} tokens: {self.text(tokens)[-300:]!r}")

    def text(self, tokens: Sequence[int]) -> str:
        """Without the end of the answer."""
        kept = (self.words.table[token] for token in tokens if token not in self.words.eos)
        return b"".join(kept).decode()


def answers(
    grammars: Grammars,
    format: Format,
    tools: Sequence[str] = (),
    seeds: Sequence[int] = range(3),
    closes: Sequence[str] = (),
) -> list[str]:
    """What a model without sense says when it is held to a format."""
    walker = Walker(grammars, closes)
    return [walker.text(walker.walk(grammars.constraint(format, tools), seed)) for seed in seeds]
