"""What OpenAI's older clients, vLLM's and llama.cpp's ask for besides, of a real node."""

import json
import re

import pytest
from openai import AsyncOpenAI, BadRequestError
from openai.types.chat import ChatCompletionMessageParam
from openai.types.chat.completion_create_params import Function

from tests.clients.conftest import MODEL

ASK: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is exo_actors?"}]

WEATHER: Function = {
    "name": "get_weather",
    "description": "Get the weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


async def test_a_function_of_the_older_form_is_called_and_its_result_is_read(client: AsyncOpenAI) -> None:
    question: list[ChatCompletionMessageParam] = [
        {"role": "user", "content": "What is the weather in Paris?"}
    ]
    answer = await client.chat.completions.create(
        model=MODEL, messages=question, functions=[WEATHER], temperature=0
    )
    (choice,) = answer.choices
    call = choice.message.function_call
    assert choice.finish_reason == "function_call"
    assert call is not None
    assert (call.name, set(json.loads(call.arguments))) == ("get_weather", {"city"})
    stream = await client.chat.completions.create(
        model=MODEL, messages=question, functions=[WEATHER], temperature=0, stream=True
    )
    deltas = [chunk.choices[0].delta.function_call async for chunk in stream]
    assert "".join((delta.arguments or "") for delta in deltas if delta) == call.arguments
    question += [
        {
            "role": "assistant",
            "content": None,
            "function_call": {"name": call.name, "arguments": call.arguments},
        },
        {"role": "function", "name": "get_weather", "content": "rain"},
    ]
    told = await client.chat.completions.create(
        model=MODEL, messages=question, functions=[WEATHER], function_call="none", max_tokens=8
    )
    assert told.choices[0].message.content


async def test_the_best_of_several_answers_is_the_likeliest_of_those_that_a_seed_makes(
    client: AsyncOpenAI,
) -> None:
    options: dict[str, object] = {"seed": 5, "logprobs": 0, "temperature": 1.5}
    every = await client.completions.create(
        model=MODEL, prompt="The node", n=4, max_tokens=6, extra_body=options
    )
    best = await client.completions.create(
        model=MODEL, prompt="The node", best_of=4, max_tokens=6, extra_body=options
    )
    means = {}
    for choice in every.choices:
        assert choice.logprobs is not None
        found = choice.logprobs.token_logprobs or [0.0]
        means[sum(found) / len(found)] = choice.text
    assert [choice.text for choice in best.choices] == [means[max(means)]]


async def test_an_answer_has_as_many_tokens_as_it_is_to_have_at_least(client: AsyncOpenAI) -> None:
    short = await client.chat.completions.create(model=MODEL, messages=ASK, temperature=0)
    assert short.choices[0].finish_reason == "stop"
    assert short.usage is not None
    least = short.usage.completion_tokens + 10
    longer = await client.chat.completions.create(
        model=MODEL, messages=ASK, temperature=0, extra_body={"min_tokens": least, "max_tokens": least + 5}
    )
    assert longer.usage is not None
    assert least <= longer.usage.completion_tokens <= least + 5


async def test_an_answer_is_held_to_a_grammar_in_gbnf(client: AsyncOpenAI) -> None:
    grammar = 'root ::= move ("\\n" move)? # chess\nmove ::= [NBKQR]? [a-h] [1-8]'
    for field in ("grammar", "guided_grammar"):
        answer = await client.chat.completions.create(
            model=MODEL, messages=ASK, temperature=1.5, max_tokens=32, extra_body={field: grammar}
        )
        assert re.fullmatch(r"([NBKQR]?[a-h][1-8]\n?){1,2}", answer.choices[0].message.content or "")
        with pytest.raises(BadRequestError, match="no rule `x`") as caught:
            await client.chat.completions.create(model=MODEL, messages=ASK, extra_body={field: "root ::= x"})
        assert caught.value.param == field


async def test_a_running_stream_knows_what_was_kept_of_its_prompt(lenient: AsyncOpenAI) -> None:
    prompt = "Every rank of an instance has some of its layers. " * 60
    options = {"include_usage": True, "continuous_usage_stats": True}
    cached: list[int] = []
    for _ in range(2):
        stream = await lenient.completions.create(
            model=MODEL, prompt=prompt, stream=True, max_tokens=4, extra_body={"stream_options": options}
        )
        details = [chunk.usage.prompt_tokens_details async for chunk in stream if chunk.usage]
        cached = [each.cached_tokens or 0 for each in details if each is not None]
    assert len(cached) > 1
    assert cached[0] == cached[-1] > 0
