"""A body becomes an order, or the field to blame is named."""

import json

import pytest

from api.errors import ApiError
from api.orders import chat_order, completion_order
from api.schema import ChatBody, CompletionBody, GenerationBody, decode
from bus.messages.base import RequestId
from bus.messages.generation import ChatMessage, ChatPrompt, Sampling, Stopping, ToolCall
from bus.messages.request import Order

NAME = RequestId("chatcmpl-1")
USER = {"role": "user", "content": "Hi"}
TOOL = {"type": "function", "function": {"name": "f"}}


def chat(**fields: object) -> Order:
    body = {"model": "m", "messages": [USER]} | fields
    return chat_order(decode(json.dumps(body).encode(), ChatBody), NAME)


def completion(**fields: object) -> Order:
    body = {"model": "m", "prompt": "a"} | fields
    return completion_order(decode(json.dumps(body).encode(), CompletionBody), NAME)


def chat_prompt(**fields: object) -> ChatPrompt:
    (prompt,) = chat(**fields).prompts
    assert isinstance(prompt, ChatPrompt)
    return prompt


def test_a_bare_body_changes_no_default() -> None:
    order = chat()
    assert order == Order(NAME, order.model, (ChatPrompt((ChatMessage("user", "Hi"),)),))
    assert order.stopping == Stopping()
    assert order.sampling == Sampling()


def test_null_is_the_same_as_absent() -> None:
    nothing = dict.fromkeys(
        [
            *GenerationBody.__struct_fields__,
            *ChatBody.__struct_fields__,
            *CompletionBody.__struct_fields__,
            *("user", "metadata", "store"),
        ]
    )
    for required in ("model", "messages", "prompt"):
        del nothing[required]
    assert chat(**nothing) == chat()
    assert completion(**nothing) == completion()


def test_what_changes_nothing_here_is_ignored_whatever_it_is() -> None:
    ignored = (
        *("user", "metadata", "store", "service_tier", "verbosity", "prediction", "prompt_cache_key"),
        *("prompt_cache_retention", "safety_identifier", "ttl", "draft_model", "something_new"),
    )
    assert chat(**{name: [{"any": 5}] for name in ignored}) == chat()


def test_every_sampling_field_arrives() -> None:
    order = chat(
        temperature=0,
        top_p=0.5,
        top_k=40,
        min_p=0.1,
        repetition_penalty=1.1,
        presence_penalty=-2,
        frequency_penalty=2,
        logit_bias={"5": -100, "7": 1.5},
        seed=42,
    )
    assert order.sampling == Sampling(0.0, 0.5, 40, 0.1, 1.1, -2.0, 2.0, {5: -100.0, 7: 1.5}, 42)
    assert chat(repeat_penalty=1.2).sampling.repetition_penalty == 1.2
    assert chat(top_k=-1).sampling.top_k == 0


@pytest.mark.parametrize(
    ("seed", "mapped"), [(0, 0), (-1, 2**64 - 1), (-(2**63), 2**63), (2**64 - 1, 2**64 - 1)]
)
def test_any_64_bit_seed_will_do(seed: int, mapped: int) -> None:
    assert chat(seed=seed).sampling.seed == mapped


def test_every_stopping_field_arrives() -> None:
    assert chat(max_tokens=5, stop="x", ignore_eos=True).stopping == Stopping(5, ("x",), True)
    assert chat(max_tokens=5, max_completion_tokens=9).stopping.max_tokens == 9
    assert chat(max_tokens=-1).stopping.max_tokens is None
    assert completion().stopping.max_tokens is None
    assert chat(stop=["", "a", "a", "bc"]).stopping.stop == ("a", "bc")
    assert chat(stop="").stopping.stop == ()
    assert chat(min_tokens=5, max_tokens=5).stopping.min_tokens == 5
    assert completion(min_tokens=5, max_tokens=-1).stopping == Stopping(min_tokens=5)


def test_logprobs_are_counted_as_the_engine_counts_them() -> None:
    assert chat(logprobs=False).logprobs is None
    assert chat(logprobs=True).logprobs == 0
    assert chat(logprobs=True, top_logprobs=20).logprobs == 20
    assert completion(logprobs=0).logprobs == 0
    assert completion(logprobs=5).logprobs == 5


def test_the_best_of_several_are_chosen_by_the_log_probabilities_of_all() -> None:
    order = completion(n=2, best_of=5)
    assert (order.n, order.logprobs) == (5, 0)
    assert completion(n=2, best_of=5, logprobs=3).logprobs == 3
    alike = completion(n=2, best_of=2, stream=True)
    assert (alike.n, alike.logprobs) == (2, None)


def test_the_templates_own_options_are_handed_on_as_they_are() -> None:
    assert chat_prompt().template_options == "{}"
    own = chat_prompt(enable_thinking=True, chat_template_kwargs={"enable_thinking": False, "a": [1]})
    assert json.loads(own.template_options) == {"enable_thinking": False, "a": [1]}


def test_the_lower_priority_is_the_earlier_as_with_vllm() -> None:
    assert (chat(priority=-5).priority, completion(priority=100).priority) == (5, -100)
    assert chat().priority == 0


def test_nothing_need_be_generated_where_a_prompt_is_to_be_scored() -> None:
    assert completion(max_tokens=0, echo=True, logprobs=1).stopping.max_tokens == 0
    with pytest.raises(ApiError) as caught:
        completion(max_tokens=0)
    assert caught.value.fault.param == "max_tokens"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"best_of": 1, "n": 2}, "best_of"),
        ({"best_of": 0}, "best_of"),
        ({"best_of": 33}, "best_of"),
        ({"min_tokens": 6, "max_tokens": 5}, "min_tokens"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"prompt": [1, 2], "suffix": "x"}, "suffix"),
        ({"suffix": "x", "echo": True}, "echo"),
    ],
)
def test_what_does_not_go_together_is_named(fields: dict[str, object], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        completion(**fields)
    assert (caught.value.fault.status, caught.value.fault.param) == (400, param)


def test_old_and_odd_messages_are_understood() -> None:
    prompt = chat_prompt(
        messages=[
            {"role": "user", "content": "", "name": "eve"},
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "1"},
            {"role": "assistant", "content": "so", "reasoning_content": "hm"},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
            {"role": "assistant", "content": None, "refusal": "never"},
            {"role": "assistant", "tool_calls": [{"function": {"name": "g"}}]},
        ]
    )
    assert prompt.messages == (
        ChatMessage("user", "", name="eve"),
        ChatMessage("assistant", None, tool_calls=(ToolCall("call_0", "f", "{}"),)),
        ChatMessage("tool", "1", name="f"),
        ChatMessage("assistant", "so", "hm"),
        ChatMessage("assistant", "no"),
        ChatMessage("assistant", "never"),
        ChatMessage("assistant", None, tool_calls=(ToolCall("call_0", "g", "{}"),)),
    )


@pytest.mark.parametrize(
    ("field", "value", "param"),
    [
        ("temperature", -0.1, "temperature"),
        ("temperature", 2.1, "temperature"),
        ("temperature", "hot", "temperature"),
        ("temperature", True, "temperature"),
        ("top_p", 1.1, "top_p"),
        ("min_p", -1, "min_p"),
        ("top_k", -2, "top_k"),
        ("top_k", 2**40, "top_k"),
        ("top_k", 1.5, "top_k"),
        ("repetition_penalty", 0, "repetition_penalty"),
        ("presence_penalty", 2.5, "presence_penalty"),
        ("frequency_penalty", -2.5, "frequency_penalty"),
        ("logit_bias", {"x": 1}, "logit_bias"),
        ("logit_bias", {"-1": 1}, "logit_bias"),
        ("logit_bias", {"1.5": 1}, "logit_bias"),
        ("logit_bias", {"²": 1}, "logit_bias"),
        ("logit_bias", {"9" * 30: 1}, "logit_bias"),
        ("logit_bias", {"1": 101}, "logit_bias"),
        ("logit_bias", [1], "logit_bias"),
        ("seed", 2**64, "seed"),
        ("seed", -(2**63) - 1, "seed"),
        ("seed", 10**40, "seed"),
        ("seed", 1.5, "seed"),
        ("n", 0, "n"),
        ("n", 33, "n"),
        ("n", "2", "n"),
        ("max_tokens", 0, "max_tokens"),
        ("max_tokens", -2, "max_tokens"),
        ("max_tokens", 10**20, "max_tokens"),
        ("max_completion_tokens", 0, "max_completion_tokens"),
        ("min_tokens", -1, "min_tokens"),
        ("stop", [1, 2], "stop[0]"),
        ("stop", 5, "stop"),
        ("stop", ["a"] * 17, "stop"),
        ("top_logprobs", 2, "top_logprobs"),
        ("top_logprobs", 21, "top_logprobs"),
        ("logprobs", 1, "logprobs"),
        ("stream", "yes", "stream"),
        ("stream_options", {"include_usage": 1}, "stream_options.include_usage"),
        ("timeout", 0, "timeout"),
        ("timeout", -5, "timeout"),
        ("tool_choice", "sometimes", "tool_choice"),
        ("tools", [5], "tools[0]"),
        ("tools", [{"type": "function"}], "tools[0].function"),
        ("tools", [{"type": "function", "function": {}}], "tools[0].function.name"),
        ("tools", [TOOL, {"type": "function", "function": {"name": 5}}], "tools[1].function.name"),
        (
            "tools",
            [{"type": "function", "function": {"name": "f", "parameters": "x"}}],
            "tools[0].function.parameters",
        ),
        ("tools", [{"type": "custom", "custom": {"name": "f"}}], "tools[0].type"),
        ("reasoning_effort", "enormous", "reasoning_effort"),
        ("reasoning", {"effort": "enormous"}, "reasoning.effort"),
        ("thinking", {"type": "sometimes"}, "thinking.type"),
        ("thinking_budget", -2, "thinking_budget"),
        ("priority", 101, "priority"),
        ("chat_template_kwargs", {"chat_template": "{{ x }}"}, "chat_template_kwargs"),
        ("chat_template_kwargs", {"tokenize": False}, "chat_template_kwargs"),
        ("messages", [{"role": "wizard", "content": "x"}], "messages[0].role"),
        ("messages", [{"role": "tool"}], "messages[0].content"),
        ("messages", [{"role": "assistant", "content": None}], "messages[0].content"),
        ("messages", [USER, {"role": "user", "content": [{"type": "text"}]}], "messages[1].content[0].text"),
        ("messages", [{"role": "user", "content": ["x"]}], "messages[0].content[0]"),
        (
            "messages",
            [{"role": "assistant", "tool_calls": [{"id": "c"}]}],
            "messages[0].tool_calls[0].function",
        ),
    ],
)
def test_what_is_wrong_is_a_400_that_names_the_field(field: str, value: object, param: str) -> None:
    with pytest.raises(ApiError) as caught:
        chat(**{field: value})
    assert (caught.value.fault.status, caught.value.fault.param) == (400, param)


@pytest.mark.parametrize(
    "prompt",
    [
        [],
        [[]],
        [1, "a"],
        ["a", 1],
        [[1], "a"],
        ["a", [1]],
        [1, [1]],
        [-1],
        [2**31],
        [1.5],
        [True],
        5,
        {},
        [[[1]]],
    ],
)
def test_what_is_not_a_prompt_is_a_400(prompt: object) -> None:
    with pytest.raises(ApiError) as caught:
        completion(prompt=prompt)
    assert caught.value.fault.status == 400
    assert str(caught.value.fault.param).startswith("prompt")


def test_a_missing_prompt_is_named() -> None:
    with pytest.raises(ApiError) as caught:
        decode(b'{"model":"m"}', CompletionBody)
    assert caught.value.fault.param == "prompt"


def test_one_request_has_a_bounded_number_of_answers() -> None:
    assert len(completion(prompt=["a"] * 256).prompts) == 256
    for many in ({"n": 32}, {"best_of": 32}):
        with pytest.raises(ApiError):
            completion(prompt=["a"] * 9, **many)


def test_nothing_that_is_nested_deeply_gets_through() -> None:
    deep: object = 1
    for _ in range(100):
        deep = {"x": deep}
    tool = {"type": "function", "function": {"name": "f", "parameters": deep}}
    for fields in ({"tools": [tool]}, {"chat_template_kwargs": deep}):
        with pytest.raises(ApiError):
            chat(**fields)
