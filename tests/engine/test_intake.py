"""What is looked at before a sequence gets near the batch."""

from __future__ import annotations

import json
import math

import pytest

from bus.messages.base import SequenceId
from bus.messages.engine import Submit
from bus.messages.generation import (
    ChatMessage,
    ChatPrompt,
    Prompt,
    RefusalCode,
    Sampling,
    Stopping,
    TextPrompt,
    TokenPrompt,
    ToolCall,
)
from engine import intake
from engine.intake import Intake, Rejected
from engine.text.template import Ending, continues
from engine.work import Job
from tests.engine.intakes import CONTEXT, USER, VOCABULARY, Words, accept, chat


@pytest.fixture
def words() -> Words:
    return Words()


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
        (Sampling(temperature=1e300), "temperature"),
        (Sampling(repetition_penalty=0.0), "repetition_penalty"),
        (Sampling(repetition_penalty=1e-40), "repetition_penalty"),
        (Sampling(presence_penalty=-1e308), "presence_penalty"),
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


def test_more_scores_of_a_prompt_than_a_message_holds_are_refused_before_they_are_computed(
    words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "MOST_SCORES", 30)
    assert accept(words, TextPrompt("a " * 10), logprobs=2, echo=True).prompt_logprobs
    assert accept(words, TextPrompt("a " * 11), logprobs=2).logprobs == 2
    with pytest.raises(Rejected, match="at most 10 of a prompt's tokens can be told; this one has 11"):
        accept(words, TextPrompt("a " * 11), logprobs=2, echo=True)


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
    assert accept(words, chat(USER, ChatMessage("assistant", "<think> a"))).reasoning
    assert not accept(words, chat(USER, ChatMessage("assistant", "<think> a </think> b"))).reasoning
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
    ],
)
def test_what_a_template_cannot_be_given_is_refused_by_name(
    words: Words, prompt: ChatPrompt, param: str
) -> None:
    with pytest.raises(Rejected) as rejected:
        accept(words, prompt)
    assert rejected.value.refusal.code is RefusalCode.INVALID
    assert rejected.value.refusal.param == param


def test_a_call_that_broke_off_comes_back_in_the_history(words: Words) -> None:
    broken = ChatMessage("assistant", tool_calls=(ToolCall("a", "f", '{"a": 1'),))
    accept(words, chat(USER, broken, ChatMessage("tool", "no JSON", tool_call_id="a")))
    assert words.rendered[1]["tool_calls"] == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": {"INVALID_JSON": '{"a": 1'}}}
    ]


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
