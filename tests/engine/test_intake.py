"""What is looked at before a sequence gets near the batch."""

from __future__ import annotations

import json
import math

import pytest

from bus.messages.base import SequenceId
from bus.messages.engine import Submit
from bus.messages.generation import (
    CallFormat,
    ChatMessage,
    ChatPrompt,
    Format,
    InfillPrompt,
    JsonFormat,
    Prompt,
    RefusalCode,
    Sampling,
    Stopping,
    TextPrompt,
    TokenPrompt,
    ToolCall,
)
from bus.trail import trail_of
from engine.constraints.errors import GrammarError
from engine.intake import Grammars, Intake, Rejected
from engine.marks import QUESTIONS
from engine.template import Ending, continues
from engine.thinking import Template
from engine.work import Job

CONTEXT = 100
VOCABULARY = 1000


class Spelled:
    """A token for each word's length."""

    def __init__(self, text: str) -> None:
        self.tokens = [len(word) for word in text.split()]

    def token_at(self, character: int) -> int | None:
        return None


class Words:
    """A tokenizer with a token for each word's length, that keeps what it was asked to render."""

    has_template = True
    think_markers = ("<think>", "</think>")

    def __init__(self) -> None:
        self.rendered: list[dict[str, object]] = []
        self.tools: list[object] | None = None
        self.options: dict[str, object] = {}
        self.ending = Ending.CLOSED

    def encode(self, text: str) -> list[int]:
        return Spelled(text).tokens

    def decode(self, tokens: object) -> str:
        return f"decoded {tokens}"

    def spell(self, text: str) -> Spelled:
        return Spelled(text)

    def token(self, text: str) -> int | None:
        return {"<fim_prefix>": 901, "<fim_suffix>": 902, "<fim_middle>": 903}.get(text)

    def opening(self) -> list[int]:
        return [900]

    def encode_plainly(self, text: str) -> list[int]:
        return self.encode(text)

    def template(self, tools: bool) -> Template:
        return Template(frozenset({"enable_thinking"}))

    def compose(
        self,
        messages: list[dict[str, object]],
        tools: list[object] | None,
        options: dict[str, object],
        ending: Ending,
    ) -> str:
        if messages[-1]["content"] not in QUESTIONS:
            self.rendered, self.tools, self.options, self.ending = messages, tools, options, ending
        if any(message["role"] == "system" for message in messages):
            raise RuntimeError("System role not supported")
        return " ".join(str(message["content"]) for message in messages)


@pytest.fixture
def words() -> Words:
    return Words()


def accept(
    words: Words,
    prompt: Prompt,
    sampling: Sampling | None = None,
    stopping: Stopping | None = None,
    logprobs: int | None = None,
    echo: bool = False,
) -> Job:
    submit = Submit(
        SequenceId("a"), prompt, sampling or Sampling(), stopping or Stopping(), logprobs=logprobs, echo=echo
    )
    return Intake(words, CONTEXT, VOCABULARY, clock=lambda: 7.0).accept(submit)


def chat(*messages: ChatMessage, tools: tuple[str, ...] = (), options: str = "{}") -> ChatPrompt:
    return ChatPrompt(messages, tools, options)


USER = ChatMessage("user", "hello there")


def test_a_prompt_becomes_a_job_with_its_limits(words: Words) -> None:
    job = accept(words, TextPrompt("one two three"), stopping=Stopping(stop=("x", "")))
    assert (job.tokens, job.max_tokens, job.arrived_s) == ([3, 3, 5], CONTEXT - 3, 7.0)
    assert job.stop == ("x",)
    assert (job.parsed, job.continues) == (False, True)


@pytest.mark.parametrize(("wished", "got"), [(None, 97), (5, 5), (10**9, 97), (0, 0)])
def test_an_answer_is_as_long_as_was_wished_or_as_the_context_has_room(
    words: Words, wished: int | None, got: int
) -> None:
    assert accept(words, TextPrompt("one two three"), stopping=Stopping(max_tokens=wished)).max_tokens == got


@pytest.mark.parametrize("prompt", [TextPrompt(""), TokenPrompt(()), TextPrompt("  ")])
def test_an_empty_prompt_is_refused(words: Words, prompt: Prompt) -> None:
    with pytest.raises(Rejected, match="empty") as rejected:
        accept(words, prompt)
    assert rejected.value.refusal.code is RefusalCode.INVALID
    assert rejected.value.refusal.param == "prompt"


@pytest.mark.parametrize(
    ("prompt", "param"),
    [
        (TextPrompt("a " * CONTEXT), "prompt"),
        (TokenPrompt((1,) * CONTEXT), "prompt"),
        (chat(ChatMessage("user", "a " * CONTEXT)), "messages"),
    ],
)
def test_a_prompt_that_leaves_no_room_is_refused_with_the_numbers(
    words: Words, prompt: Prompt, param: str
) -> None:
    with pytest.raises(Rejected, match=r"context is 100 tokens.*has 100.*by 1 or more") as rejected:
        accept(words, prompt)
    assert rejected.value.refusal.code is RefusalCode.CONTEXT_LENGTH
    assert rejected.value.refusal.param == param


@pytest.mark.parametrize("token", [-1, VOCABULARY, 1 << 60])
def test_ids_that_are_no_tokens_are_refused(words: Words, token: int) -> None:
    with pytest.raises(Rejected, match="is no token"):
        accept(words, TokenPrompt((1, token)))
    with pytest.raises(Rejected, match="names token"):
        accept(words, TextPrompt("a"), Sampling(logit_bias={token: 1.0}))


@pytest.mark.parametrize(
    ("sampling", "param"),
    [
        (Sampling(temperature=-0.1), "temperature"),
        (Sampling(temperature=math.nan), "temperature"),
        (Sampling(temperature=math.inf), "temperature"),
        (Sampling(top_p=1.1), "top_p"),
        (Sampling(min_p=-1.0), "min_p"),
        (Sampling(top_k=-1), "top_k"),
        (Sampling(repetition_penalty=0.0), "repetition_penalty"),
        (Sampling(presence_penalty=math.nan), "presence_penalty"),
        (Sampling(frequency_penalty=-math.inf), "frequency_penalty"),
        (Sampling(logit_bias={1: math.nan}), "logit_bias"),
        (Sampling(logit_bias={1: 1e9}), "logit_bias"),
    ],
)
def test_settings_without_a_meaning_are_refused_by_name(words: Words, sampling: Sampling, param: str) -> None:
    with pytest.raises(Rejected) as rejected:
        accept(words, TextPrompt("a"), sampling)
    assert rejected.value.refusal.param == param


@pytest.mark.parametrize("logprobs", [-1, 21])
def test_more_log_probabilities_than_there_may_be_are_refused(words: Words, logprobs: int) -> None:
    with pytest.raises(Rejected, match="At most 20"):
        accept(words, TextPrompt("a"), logprobs=logprobs)


def test_the_prompt_is_given_back_where_that_is_wanted(words: Words) -> None:
    assert accept(words, TextPrompt("one two"), echo=True).echo == "one two"
    assert accept(words, TokenPrompt((4, 5)), echo=True).echo == "decoded (4, 5)"
    assert accept(words, TextPrompt("one two")).echo == ""


# -- conversations -------------------------------------------------------------------------------


def test_a_conversation_is_rendered_in_the_form_that_templates_know(words: Words) -> None:
    call = ToolCall("call_1", "add", '{"a": 1}')
    accept(
        words,
        chat(
            USER,
            ChatMessage("assistant", None, reasoning="hm", tool_calls=(call,)),
            ChatMessage("tool", "2", tool_call_id="call_1", name="add"),
            tools=('{"type": "function"}',),
            options='{"enable_thinking": false}',
        ),
    )
    assert words.rendered == [
        {"role": "user", "content": "hello there"},
        {
            "role": "assistant",
            "content": "",
            "reasoning_content": "hm",
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
            ],
        },
        {"role": "tool", "content": "2", "tool_call_id": "call_1", "name": "add"},
    ]
    assert words.tools == [{"type": "function"}]
    assert words.options == {"enable_thinking": False}
    assert words.ending is Ending.ASKS


def test_a_developer_is_the_system_and_a_template_may_refuse_it_in_its_own_words(words: Words) -> None:
    with pytest.raises(Rejected, match="System role not supported") as rejected:
        accept(words, chat(ChatMessage("developer", "be brief"), USER))
    assert rejected.value.refusal.param == "messages"
    assert words.rendered[0]["role"] == "system"


def test_an_answer_that_was_begun_is_continued(words: Words) -> None:
    job = accept(words, chat(USER, ChatMessage("assistant", "I am")))
    assert words.ending is Ending.OPEN
    assert job.continues


def test_an_answer_that_was_not_begun_is_left_out(words: Words) -> None:
    job = accept(words, chat(USER, ChatMessage("assistant", "")))
    assert [message["role"] for message in words.rendered] == ["user"]
    assert not job.continues


def test_a_call_at_the_end_is_not_continued() -> None:
    call = ToolCall("call_1", "add", "{}")
    assert not continues(chat(USER, ChatMessage("assistant", "x", tool_calls=(call,))))
    assert not continues(chat())


def test_a_prompt_that_ends_in_reasoning_says_so(words: Words) -> None:
    assert accept(words, chat(ChatMessage("user", "a <think>"))).reasoning
    assert not accept(words, chat(USER)).reasoning
    assert not accept(words, TextPrompt("a <think>")).reasoning


def test_a_model_without_a_chat_template_says_what_to_use(words: Words) -> None:
    words.has_template = False
    with pytest.raises(Rejected, match="/v1/completions"):
        accept(words, chat(USER))


@pytest.mark.parametrize(
    ("prompt", "param"),
    [
        (chat(), "messages"),
        (chat(USER, tools=("no json",)), "tools"),
        (chat(USER, tools=("[1]",)), "tools"),
        (chat(USER, options="[1]"), "chat_template_kwargs"),
        (chat(USER, options=json.dumps({"chat_template": "{{ 1 }}"})), "chat_template_kwargs"),
        (chat(ChatMessage("assistant", tool_calls=(ToolCall("a", "f", "no json"),)), USER), "messages"),
    ],
)
def test_what_a_template_cannot_be_given_is_refused_by_name(
    words: Words, prompt: ChatPrompt, param: str
) -> None:
    with pytest.raises(Rejected) as rejected:
        accept(words, prompt)
    assert rejected.value.refusal.code is RefusalCode.INVALID
    assert rejected.value.refusal.param == param


def resumed(words: Words, tokens: tuple[int, ...], max_tokens: int | None = None) -> Job:
    submit = Submit(
        SequenceId("a"), TextPrompt("one three"), stopping=Stopping(max_tokens=max_tokens), resume=tokens
    )
    return Intake(words, CONTEXT, VOCABULARY).accept(submit)


def test_what_was_generated_already_follows_the_prompt_and_is_told_apart_from_it(words: Words) -> None:
    job = resumed(words, (7, 8, 9))
    assert job.tokens == [3, 5, 7, 8, 9]
    assert (job.prompt_tokens, job.resumed, job.answered) == (2, 3, [7, 8, 9])
    assert resumed(words, ()).answered == []


def test_limits_are_those_of_the_whole_answer_wherever_it_was_begun(words: Words) -> None:
    assert resumed(words, (7, 8, 9)).max_tokens == CONTEXT - 2
    assert resumed(words, (7, 8, 9), max_tokens=10).max_tokens == 10


def test_tokens_to_go_on_from_must_be_the_models(words: Words) -> None:
    with pytest.raises(Rejected, match="1000 is no token"):
        resumed(words, (7, 1000))


def test_a_thought_that_was_begun_by_the_answer_is_not_the_prompts(words: Words) -> None:
    prompt = ChatPrompt((ChatMessage("user", "Hi"),))
    submit = Submit(SequenceId("a"), prompt, resume=(len("<think>"),))
    assert not Intake(words, CONTEXT, VOCABULARY).accept(submit).reasoning


# -- what else may be asked ------------------------------------------------------------------------


def test_what_is_asked_of_the_answer_is_handed_on(words: Words) -> None:
    stopping = Stopping(max_tokens=5, reasoning_tokens=3, calls=1)
    job = Intake(words, CONTEXT, VOCABULARY).accept(
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
    job = Intake(words, CONTEXT, VOCABULARY).accept(Submit(SequenceId("a"), prompt, embed=True))
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

    def check(self, format: Format | None, tools: object = ()) -> None:
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
