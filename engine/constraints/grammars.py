"""A model's grammars: checked, made once for each format, and handed out to the answers held to them."""

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import numpy as np
from llguidance import LLMatcher, LLParserLimits

from bus.messages.generation import (
    CallFormat,
    Format,
    GrammarFormat,
    GrammarSyntax,
    JsonFormat,
    RegexFormat,
)
from engine.constraints.calls import call_grammar, syntax_of
from engine.constraints.constraint import Constraint, Watch
from engine.constraints.errors import GrammarError
from engine.constraints.gbnf import rules_of
from engine.constraints.lexemes import lark_of
from engine.constraints.schema import LONGEST, LONGEST_PATTERNS, schema_of
from engine.constraints.words import Source, Words, words_of
from engine.text.markers import CallMarkers

_LIMITS: Final = LLParserLimits(max_lexer_states=20_000, step_max_items=200_000, verbose_errors=False)
"""About 40 MB at most for one format's automaton; a step's work ends after some 30 ms. More items than by the
library's own limit, as a grammar that has to be parsed character by character needs them."""

_KEPT: Final = 32
"""Grammars that are kept for the next request of the same format."""

_LONGEST_GRAMMAR: Final = 32 * 1024
_MOST_RULES: Final = 400
_FIRST_STEPS: Final = 4

_Grammar: TypeAlias = Mapping[str, object]
"""One of llguidance's top-level grammars, without its name."""

_Key: TypeAlias = tuple[Format, tuple[str, ...]]


class Grammars:
    """For one model. Any thread may ask."""

    def __init__(self, source: Source) -> None:
        """Costs nothing until the first answer is to be held to something."""
        self._source = source
        self._words: Words | None = None
        self._made: OrderedDict[_Key, LLMatcher] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def ends(self) -> frozenset[int]:
        """The tokens that end an answer, whatever it is held to."""
        return self._source.eos

    def check(
        self, format: Format | None, tools: Sequence[str] = (), reasoning_tokens: int | None = None
    ) -> None:
        """Raises GrammarError for a format that answers can't be held to; makes its grammar otherwise."""
        if format is not None:
            self._grammar(format, tuple(tools))
        elif reasoning_tokens is not None:
            self._ready()

    def prepare(self) -> None:
        """Do ahead what the first format would wait for: a second's work for a vocabulary of 128k.
        Raises GrammarError where no answer of this model can be held to anything."""
        _ = self._ready().tokenizer  # made when it is first asked for

    def constraint(
        self,
        format: Format | None,
        tools: Sequence[str] = (),
        *,
        reasoning: bool = False,
        reasoning_tokens: int | None = None,
        generated: Sequence[int] = (),
        chat: bool = True,
    ) -> Constraint:
        """For one answer, of which `generated` stands there already.

        `tools`: definitions as JSON. `reasoning`: the prompt ends inside the model's reasoning.
        `reasoning_tokens`: the most that the answer may spend on it. `chat`: the answer's markers are read;
        otherwise it is plain text, all of which is held to the format. Raises nothing: what is wrong is told
        by the constraint's `failure`.
        """
        try:
            words = self._ready()
            grammar = None if format is None else self._grammar(format, tuple(tools)).deep_copy()
        except GrammarError as error:
            constraint = Constraint(Words((), {}, frozenset(), lambda _: []), None, None, None)
            constraint.failure = str(error)
            return constraint
        markers, thinking = self._source.call_markers, self._source.thinking
        calls = bool(tools) and markers is not None
        watch = Watch(words, self._source.splitter(calls, reasoning)) if chat else None
        constraint = Constraint(
            words, grammar, watch, thinking, reasoning_tokens, markers.start if calls and markers else ""
        )
        for token in generated:
            constraint.take(token)
        return constraint

    def _ready(self) -> Words:
        with self._lock:
            if self._words is None:
                markers = self._source.call_markers
                self._words = words_of(self._source, syntax_of(markers.parser) if markers else "")
            return self._words

    def _grammar(self, format: Format, tools: tuple[str, ...]) -> LLMatcher:
        key = (format, tools)
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key]
        matcher = self._make(format, tools)
        with self._lock:
            self._made[key] = matcher
            while len(self._made) > _KEPT:
                self._made.popitem(last=False)
        return matcher

    def _make(self, format: Format, tools: tuple[str, ...]) -> LLMatcher:
        words = self._ready()
        parts = _parts(format, tools, words, self._source)
        with self._lock:
            tokenizer = words.tokenizer
        matcher = LLMatcher(tokenizer, json.dumps({"grammars": parts}), log_level=0, limits=_LIMITS)
        trial = matcher.deep_copy()
        _begin(trial)
        if trial.is_error():
            raise GrammarError(f"{_NAMES[type(format)]}: {_told(trial.get_error())}")
        return matcher


_NAMES: Final[Mapping[type[Format], str]] = {
    JsonFormat: "no answer can be held to this JSON schema",
    RegexFormat: "no answer can be held to this regular expression",
    GrammarFormat: "no answer can be held to this grammar",
    CallFormat: "no call can be held to these tools' parameters",
}


def _parts(format: Format, tools: tuple[str, ...], words: Words, source: Source) -> list[_Grammar]:
    """The answer's grammar and those that it refers to."""
    if sum(map(len, tools)) > LONGEST:
        raise GrammarError(f"the tools have {sum(map(len, tools))} characters; {LONGEST} are the most")
    markers = source.call_markers
    if isinstance(format, CallFormat):
        if markers is None:
            raise GrammarError("this model does not call tools")
        content = _calls(markers, words, tools, format.function)
    else:
        content = _content(format)
    answer = "@content"
    parts: list[_Grammar] = [{"name": "content", **content}]
    if tools and markers is not None and not isinstance(format, CallFormat):
        answer = "(@content | @calls)"
        parts.append({"name": "calls", **_calls(markers, words, tools, "")})
    around = _structured(words, source.markers, answer)
    if len(parts) == 1 and around == answer:
        return parts
    return [{"name": "answer", "lark_grammar": f"start: {around}"}, *parts]


def _content(format: JsonFormat | RegexFormat | GrammarFormat) -> _Grammar:
    match format:
        case JsonFormat(schema=text):
            return {"json_schema": schema_of(text or '{"type":"object"}')}
        case RegexFormat(pattern=pattern):
            short = _short(pattern, LONGEST_PATTERNS, "regular expression")
            made: list[_Grammar] = json.loads(LLMatcher.grammar_from_regex(short))["grammars"]
            return {"lark_grammar": made[0]["lark_grammar"]}
        case GrammarFormat(grammar=grammar, syntax=GrammarSyntax.GBNF):
            return {"lark_grammar": lark_of(rules_of(_few(grammar, "::=")))}
        case GrammarFormat(grammar=grammar):
            return {"lark_grammar": _few(grammar, ":")}


def _calls(markers: CallMarkers, words: Words, tools: tuple[str, ...], function: str) -> _Grammar:
    return {"lark_grammar": call_grammar(markers, words, tools, function)}


def _structured(words: Words, markers: Sequence[str], answer: str) -> str:
    """An answer with the markers that a model may put around it, and that are taken out of it: those of
    mlx-lm's `structural_markers`, which so far one format has."""
    before = [marker for marker in markers if marker.startswith("<|open|>response")]
    after = [marker for marker in markers if marker.startswith(("<|close|>response", "<|close|>message"))]
    optional = (f"({words.spelled(marker)})?" for marker in after)
    return " ".join([*(f"({words.spelled(marker)})?" for marker in before), answer, *optional])


def _short(text: str, most: int, what: str) -> str:
    if len(text) > most:
        raise GrammarError(f"the {what} has {len(text)} characters; {most} are the most")
    return text


def _few(grammar: str, sign: str) -> str:
    """Each rule has a sign; the library follows rules by recursion, so a chain of them must not be long."""
    if (rules := grammar.count(sign)) > _MOST_RULES:
        raise GrammarError(f"the grammar has about {rules} rules; {_MOST_RULES} are the most")
    return _short(grammar, _LONGEST_GRAMMAR, "grammar")


def _begin(matcher: LLMatcher) -> None:
    """Take some steps: a format that is too much for one mostly is so at the beginning."""
    for _ in range(_FIRST_STEPS):
        bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
        allowed = np.flatnonzero(np.unpackbits(bits, bitorder="little"))
        if matcher.is_error() or not len(allowed) or not matcher.consume_token(int(allowed[-1])):
            return


def _told(error: str) -> str:
    """What the library says, without what it knows of its own state."""
    return error.partition("\n<")[0].strip()[:400]
