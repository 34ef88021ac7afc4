"""What may be asked of an answer beyond its length: formats, scores, embeddings, gaps; and what fits."""

from __future__ import annotations

import pytest

from bus.messages.base import SequenceId
from bus.messages.engine import Submit
from bus.messages.generation import (
    CallFormat,
    ChatMessage,
    Format,
    InfillPrompt,
    JsonFormat,
    Prompt,
    RefusalCode,
    Stopping,
    TextPrompt,
    TokenPrompt,
)
from bus.trail import trail_of
from engine.constraints.errors import GrammarError
from engine.intake import Grammars, Intake, Rejected
from engine.work import Job
from tests.engine.intakes import CONTEXT, USER, VOCABULARY, Words, accept, chat


@pytest.fixture
def words() -> Words:
    return Words()


# -- what else may be asked ------------------------------------------------------------------------


def test_what_is_asked_of_the_answer_is_handed_on(words: Words) -> None:
    stopping = Stopping(max_tokens=5, reasoning_tokens=3, calls=1)
    job = Intake(words, CONTEXT, VOCABULARY, grammars=Picky()).accept(
        Submit(SequenceId("a"), chat(USER), stopping=stopping, priority=2)
    )
    assert (job.reasoning_tokens, job.calls, job.priority, job.embed) == (3, 1, 2, False)
    assert job.trail == trail_of(chat(USER))


@pytest.mark.parametrize("stopping", [Stopping(reasoning_tokens=-1), Stopping(calls=0)])
def test_limits_without_a_meaning_are_refused(words: Words, stopping: Stopping) -> None:
    with pytest.raises(Rejected):
        accept(words, chat(USER), stopping=stopping)


@pytest.mark.parametrize("prompt", [TextPrompt("one two"), TokenPrompt((3, 3)), chat(USER)])
def test_any_prompt_may_be_embedded_and_has_no_answer(words: Words, prompt: Prompt) -> None:
    intake = Intake(words, CONTEXT, VOCABULARY, embeds=True)
    job = intake.accept(Submit(SequenceId("a"), prompt, embed=True))
    assert (job.embed, job.max_tokens) == (True, 0)


@pytest.mark.parametrize(
    ("echo", "logprobs", "resume", "wanted"),
    [
        (True, 0, (), True),
        (True, None, (), False),
        (False, 2, (), False),
        (True, 0, (7,), False),
    ],
)
def test_the_prompts_own_log_probabilities_are_computed_where_they_will_be_told(
    words: Words, echo: bool, logprobs: int | None, resume: tuple[int, ...], wanted: bool
) -> None:
    submit = Submit(SequenceId("a"), TextPrompt("one"), logprobs=logprobs, echo=echo, resume=resume)
    assert Intake(words, CONTEXT, VOCABULARY).accept(submit).prompt_logprobs is wanted


def test_a_line_that_changes_each_turn_never_reaches_the_template(words: Words) -> None:
    header = "x-anthropic-billing-header: cc_version=2.1; cch=a1b2c;"
    accept(words, chat(ChatMessage("system", header), USER))
    assert [message["role"] for message in words.rendered] == ["user"]


def test_a_gap_is_told_in_the_models_own_tokens(words: Words) -> None:
    prompt = InfillPrompt("def f():", "return x")
    assert accept(words, prompt).tokens == [900, 901, 3, 4, 902, 6, 1, 903]
    assert accept(words, prompt, echo=True).echo == "def f():"
    with pytest.raises(Rejected, match="suffix"):
        accept(words, prompt, echo=True, logprobs=1)


def test_a_model_that_fills_no_gaps_says_so(words: Words, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "token", lambda text: None)
    with pytest.raises(Rejected, match="no tokens for filling gaps") as rejected:
        accept(words, InfillPrompt("a", "b"))
    assert rejected.value.refusal.param == "suffix"


# -- formats ---------------------------------------------------------------------------------------

ADD = '{"type": "function", "function": {"name": "add"}}'


class Picky:
    """Knows no formats but calls."""

    def check(self, format: Format | None, tools: object = (), reasoning_tokens: int | None = None) -> None:
        if isinstance(format, JsonFormat):
            raise GrammarError("the schema is wrong at $.a")


def formatted(words: Words, format: Format, prompt: Prompt, grammars: Grammars | None) -> Job:
    intake = Intake(words, CONTEXT, VOCABULARY, grammars=grammars)
    return intake.accept(Submit(SequenceId("a"), prompt, format=format))


def test_a_format_that_can_be_held_goes_with_the_job(words: Words) -> None:
    job = formatted(words, CallFormat("add"), chat(USER, tools=(ADD,)), Picky())
    assert (job.format, job.tools) == (CallFormat("add"), (ADD,))


@pytest.mark.parametrize(
    ("format", "tools", "grammars", "reason", "param"),
    [
        (JsonFormat("{}"), (), Picky(), r"wrong at \$\.a", "response_format"),
        (JsonFormat(), (), None, "can't be held", "response_format"),
        (CallFormat(), (), Picky(), "none is offered", "tool_choice"),
        (CallFormat("sub"), (ADD,), Picky(), "sub is to be called.*offered are add", "tool_choice"),
        (CallFormat(), ('{"type": "function"}',), Picky(), "no function's definition", "tools"),
    ],
)
def test_a_format_that_cannot_be_held_is_refused_with_the_reason(
    words: Words, format: Format, tools: tuple[str, ...], grammars: Grammars | None, reason: str, param: str
) -> None:
    with pytest.raises(Rejected, match=reason) as rejected:
        formatted(words, format, chat(USER, tools=tools), grammars)
    assert rejected.value.refusal.code is RefusalCode.INVALID
    assert rejected.value.refusal.param == param


# -- memory ----------------------------------------------------------------------------------------


def in_room(words: Words, room: int | None, max_tokens: int | None) -> Job:
    intake = Intake(words, CONTEXT, VOCABULARY, room=lambda: room)
    return intake.accept(
        Submit(SequenceId("a"), TextPrompt("a " * 10), stopping=Stopping(max_tokens=max_tokens))
    )


@pytest.mark.parametrize(
    ("room", "max_tokens", "got"),
    [(None, None, 90), (40, None, 30), (40, 30, 30), (200, None, 90), (100, 10**9, 90)],
)
def test_an_answer_without_a_limit_gets_what_memory_has_room_for(
    words: Words, room: int | None, max_tokens: int | None, got: int
) -> None:
    assert in_room(words, room, max_tokens).max_tokens == got


@pytest.mark.parametrize(
    ("room", "max_tokens", "reason"),
    [
        (10, None, "holds 10 tokens.*alone has 10. Shorten it by 1 or more"),
        (40, 31, "holds 40 tokens.*prompt has 10.*asks for 31.*Ask for 30 at most"),
    ],
)
def test_what_could_never_fit_into_memory_is_refused_at_once_with_the_numbers(
    words: Words, room: int, max_tokens: int | None, reason: str
) -> None:
    with pytest.raises(Rejected, match=reason) as rejected:
        in_room(words, room, max_tokens)
    assert rejected.value.refusal.code is RefusalCode.CONTEXT_LENGTH
