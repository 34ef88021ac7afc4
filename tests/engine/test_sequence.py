"""An answer that is taken up by another engine says what it would have said: nothing twice, nothing less."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import pytest

from bus.messages.base import SequenceId
from bus.messages.generation import Delta, Finish, TokenLogprob
from engine.decoding import Decoding
from engine.detokenizer import Vocabulary
from engine.logprobs import Likely
from engine.reply import Call, Reply, ToolFormat, as_call
from engine.sequence import Sequence as Generated
from engine.tokenizer import MarkerSplitter
from engine.work import Job
from tests.engine.markers import THINKS_AND_CALLS, machine

PROMPT = [500, 501, 502]
EOS = 256
ALPHABET = Vocabulary([bytes((byte,)) for byte in range(256)] + [b"<|end|>"], trims=True)


def parse(text: str) -> Sequence[Call]:
    call = json.loads(text)
    return [as_call(call.get("name"), call.get("arguments"))]


@dataclass(frozen=True)
class Answer:
    """What a model generates, a byte per token, and how it is asked."""

    text: str
    stop: tuple[str, ...] = ()
    echo: str = ""
    parsed: bool = False
    logprobs: int | None = None
    missing: int = 0
    """Bytes that the answer's end comes too early for."""
    ends: bool = True

    @property
    def tokens(self) -> list[int]:
        written = self.text.encode()
        return [*written[: len(written) - self.missing], *([EOS] if self.ends else [])]

    def sequence(self, resume: Sequence[int] = ()) -> Generated:
        job = Job(
            SequenceId("a"),
            PROMPT + list(resume),
            arrived_s=0.0,
            max_tokens=len(self.tokens),
            decoding=Decoding(),
            stop=self.stop,
            echo=self.echo,
            logprobs=self.logprobs,
            resumed=len(resume),
        )
        reply = Reply(None, None)
        if self.parsed:
            tools = ToolFormat("<tool_call>", "</tool_call>", parse)
            reply = Reply(MarkerSplitter(machine(THINKS_AND_CALLS), "normal"), tools)
        return Generated(job, frozenset({EOS}), ALPHABET.detokenizer(continues=False), reply, ALPHABET)

    def deltas(self, resume: Sequence[int] = ()) -> list[Delta]:
        """All after the resumed tokens, up to the finish."""
        sequence, deltas = self.sequence(resume), []
        for place, token in enumerate(self.tokens[len(resume) :], len(resume)):
            likely = None if self.logprobs is None else Likely(-float(place))
            deltas.append(sequence.take(token, likely))
            if deltas[-1].finish is not None:
                break
        return deltas


@dataclass(frozen=True)
class Seen:
    """What a client has of an answer, however it was cut into deltas. A call's id is drawn by lot."""

    text: str
    reasoning: str
    calls: tuple[tuple[str, str], ...]
    logprobs: tuple[TokenLogprob, ...]
    ids: tuple[int, ...]
    tokens: int
    finish: tuple[Finish, ...]


def seen(deltas: Iterable[Delta]) -> Seen:
    deltas = list(deltas)
    return Seen(
        "".join(delta.text for delta in deltas),
        "".join(delta.reasoning for delta in deltas),
        tuple((call.name, call.arguments) for delta in deltas for call in delta.tool_calls),
        tuple(entry for delta in deltas for entry in delta.logprobs),
        tuple(token for delta in deltas for token in delta.ids),
        sum(delta.tokens for delta in deltas),
        tuple(delta.finish for delta in deltas if delta.finish is not None),
    )


CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Zürich"}}</tool_call>'
THOUGHTFUL = f"<think>Lét me <see>.</think>\n\nI look: 4 < 5.{CALL}\n{CALL}"

ANSWERS = {
    "plain text": Answer("It is 4."),
    "the tokenizer's own first space": Answer(" It is 4."),
    "characters of several tokens": Answer("Zürich, 東京 🗻!"),
    "half a character at the end": Answer("Zürich 🗻", missing=1, ends=False),
    "the limit": Answer("no end", ends=False),
    "a stop string": Answer("one\ntwo\n\nthree", stop=("\n\n", "four")),
    "a stop string that only begins": Answer("xxxxxxxxy\nxx", stop=("xxz", "yy")),
    "the prompt's echo": Answer(" and on", echo="Once"),
    "reasoning and calls": Answer(THOUGHTFUL, parsed=True),
    "a call that can't be read": Answer("a <tool_call>b</tool_call> c", parsed=True),
    "a stop string after reasoning": Answer("<think>STOP</think>go on. STOP it", ("STOP",), parsed=True),
}
named = pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())


@named
def test_wherever_an_answer_is_cut_the_rest_is_the_same_delta_by_delta(answer: Answer) -> None:
    whole = answer.deltas()
    assert [delta.ids for delta in whole] == [(token,) for token in answer.tokens[: len(whole)]]
    for cut in range(1, len(whole)):
        rest = answer.deltas(answer.tokens[:cut])
        assert [seen([delta]) for delta in rest] == [seen([delta]) for delta in whole[cut:]]


@named
def test_with_log_probabilities_who_has_a_deltas_tokens_has_all_that_belongs_to_them(answer: Answer) -> None:
    asked = replace(answer, logprobs=0)
    whole = asked.deltas()
    assert seen(whole).text == seen(answer.deltas()).text
    for cut in range(len(whole)):
        before = seen(whole[:cut])
        rest = seen(asked.deltas(before.ids))
        assert len(before.logprobs) == len(before.ids)
        assert before.text + rest.text == seen(whole).text
        assert before.reasoning + rest.reasoning == seen(whole).reasoning
        assert before.calls + rest.calls == seen(whole).calls
        assert before.logprobs + rest.logprobs == seen(whole).logprobs
        assert before.ids + rest.ids == seen(whole).ids
        assert before.tokens + rest.tokens == seen(whole).tokens
        assert rest.finish == seen(whole).finish


def test_a_delta_with_log_probabilities_waits_until_nothing_is_held_back() -> None:
    deltas = Answer("aéxyz", stop=("xyy",), logprobs=0).deltas()
    assert [delta.text for delta in deltas] == ["a", "", "é", "", "", "xyz", ""]
    assert [len(delta.ids) for delta in deltas] == [1, 0, 2, 0, 0, 3, 1]


def test_an_answer_that_another_engines_limit_has_passed_ends_there() -> None:
    answer = Answer("abc", ends=False)
    delta = answer.sequence(answer.tokens).nothing()
    assert (delta.text, delta.ids) == ("", ())
    assert delta.finish is not None
    assert delta.finish.completion_tokens == 3
