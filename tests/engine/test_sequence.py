"""An answer that is taken up by another engine says what it would have said: nothing twice, nothing less."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import pytest

from bus.messages.base import SequenceId
from bus.messages.generation import Delta, Finish, FinishReason, TokenLogprob, ToolCallDelta
from engine.steps.decoding import Decoding
from engine.steps.likely import Likely
from engine.text.detokenizer import Vocabulary
from engine.text.reply import Reply
from engine.text.sequence import Sequence as Generated
from engine.text.sequence import call_id
from engine.text.tokenizer import MarkerSplitter
from engine.work import Job
from tests.engine.markers import THINKS_AND_CALLS, machine
from tests.engine.tool_formats import FORMS

PROMPT = [500, 501, 502]
EOS = 256
ALPHABET = Vocabulary([bytes((byte,)) for byte in range(256)] + [b"<|end|>"], trims=True)


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
    calls: int | None = None
    prompt_logprobs: bool = False

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
            calls=self.calls,
            prompt_logprobs=self.prompt_logprobs,
        )
        reply = Reply(None, None)
        if self.parsed:
            tools = FORMS["json_tools"].format()
            reply = Reply(MarkerSplitter(machine(THINKS_AND_CALLS), "normal"), tools, self.calls)
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
    """What a client has of an answer, however it was cut into deltas."""

    text: str
    reasoning: str
    calls: tuple[tuple[int, str, str, str], ...]
    logprobs: tuple[TokenLogprob, ...]
    ids: tuple[int, ...]
    tokens: int
    finish: tuple[Finish, ...]


def seen(deltas: Iterable[Delta]) -> Seen:
    deltas = list(deltas)
    return Seen(
        "".join(delta.text for delta in deltas),
        "".join(delta.reasoning for delta in deltas),
        calls_of(deltas),
        tuple(entry for delta in deltas for entry in delta.logprobs),
        tuple(token for delta in deltas for token in delta.ids),
        sum(delta.tokens for delta in deltas),
        tuple(delta.finish for delta in deltas if delta.finish is not None),
    )


def calls_of(deltas: Iterable[Delta]) -> tuple[tuple[int, str, str, str], ...]:
    """Number, id, name and arguments of each call, or of the part of it that there is."""
    calls: dict[int, tuple[int, str, str, str]] = {}
    for call in (call for delta in deltas for call in delta.tool_calls):
        _, id, name, arguments = calls.get(call.index, (0, "", "", ""))
        calls[call.index] = (call.index, id + call.id, name + call.name, arguments + call.arguments)
    return tuple(calls.values())


def joined(calls: Iterable[tuple[int, str, str, str]]) -> tuple[tuple[int, str, str, str], ...]:
    """Parts of the same call put together."""
    return calls_of(Delta(SequenceId("a"), tool_calls=(ToolCallDelta(*call),)) for call in calls)


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
    "a call that breaks off": Answer('<tool_call>{"name": "f", "arguments": {"a": "b', parsed=True),
    "no more calls than there may be": Answer(f"{CALL}{CALL}", parsed=True, calls=1),
    "a call that can't be read": Answer("a <tool_call>b</tool_call> c", parsed=True),
    "a stop string that a call breaks off": Answer(f"Well.\n{CALL}\nx", ("\n\n",), parsed=True),
    "a stop string in a call that can't be read": Answer(
        "a <tool_call>\nb</tool_call> c\nd", ("\n",), parsed=True
    ),
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
        assert joined(before.calls + rest.calls) == seen(whole).calls
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


def test_as_many_calls_as_there_may_be_end_the_answer() -> None:
    deltas = Answer(f"Well.{CALL}{CALL}", parsed=True, calls=1).deltas()
    said = seen(deltas)
    assert [call[2:] for call in said.calls] == [("weather", '{"city": "Zürich"}')]
    assert [finish.reason for finish in said.finish] == [FinishReason.TOOL_CALLS]
    assert said.tokens < len(f"Well.{CALL}".encode())


def test_what_may_become_a_stop_string_is_told_before_the_call_that_follows_it() -> None:
    deltas = Answer(f"Well.\n{CALL}", stop=("\n\n",), parsed=True).deltas()
    first = next(place for place, delta in enumerate(deltas) if delta.tool_calls)
    assert seen(deltas[: first + 1]).text == seen(deltas).text == "Well.\n"


def test_a_stop_string_cuts_no_call_that_broke_off() -> None:
    broken = 'a<tool_call>\n{"name": "weather"\n'
    said = seen(Answer(broken, stop=("\n",), parsed=True, ends=False).deltas())
    assert said.text == broken
    assert [finish.reason for finish in said.finish] == [FinishReason.LENGTH]
    unread = "a <tool_call>\nb</tool_call> c"
    said = seen(Answer(f"{unread}\nd", stop=("\n",), parsed=True).deltas())
    assert said.text == unread
    assert [finish.stop_string for finish in said.finish] == ["\n"]


def test_a_calls_id_is_the_same_on_every_engine_and_another_for_every_call() -> None:
    again = {call_id(SequenceId(name), 0) for name in ("r-1/0", "r-1/0/1", "r-1/0/2")}
    others = {call_id(SequenceId(name), call) for name in ("r-1/0", "r-1/1", "r-2/0") for call in (0, 1)}
    assert len(again) == 1
    assert len(again | others) == 6
    assert all(id.startswith("call_") for id in again)


def test_the_prompts_own_log_probabilities_come_before_those_of_the_answer() -> None:
    sequence = Answer("!", echo="héy", logprobs=1, prompt_logprobs=True).sequence()
    sequence.job.tokens[:] = list(b" h\xc3\xa9y")
    sequence.prompt([None, *(Likely(-0.5, ((65, -0.25),)) for _ in range(4))])
    delta = sequence.take(ord("!"), Likely(-1.0))
    assert (delta.text, delta.ids) == ("héy!", (ord("!"),))
    assert "".join(entry.text for entry in delta.logprobs) == delta.text
    assert [entry.logprob for entry in delta.logprobs] == [None, -0.5, -0.5, -0.5, -0.5, -1.0]
    assert [top.text for top in delta.logprobs[1].top] == ["A"]
    assert delta.logprobs[0].top == ()


def test_a_prompt_may_be_scored_without_an_answer() -> None:
    sequence = Answer("", echo="abc", logprobs=0, prompt_logprobs=True, ends=False).sequence()
    sequence.cached = 1
    sequence.job.tokens[:] = list(b"abc")
    sequence.prompt([None, Likely(-0.5), Likely(-1.5)])
    delta = sequence.nothing()
    assert (delta.text, [entry.text for entry in delta.logprobs]) == ("abc", ["a", "b", "c"])
    assert delta.finish == Finish(FinishReason.LENGTH, 0, cached_tokens=1)


def test_an_embedding_is_one_delta_with_a_finish() -> None:
    delta = Answer("").sequence().embedded(b"1234", cached=2)
    assert (delta.embedding, delta.text, delta.ids) == (b"1234", "", ())
    assert delta.finish == Finish(FinishReason.STOP, 0, cached_tokens=2)
