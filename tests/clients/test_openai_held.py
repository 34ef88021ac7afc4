"""The official client and a real node: answers that are held to something, scored, kept or refused."""

import json
import re
from typing import Literal

import pytest
from openai import AsyncOpenAI, BadRequestError
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel

from tests.clients.conftest import MODEL

ASK: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is exo_actors?"}]


class State(BaseModel):
    """Bounded, so that any model comes to its end."""

    mood: Literal["calm", "busy"]
    ready: bool


def tool(name: str) -> ChatCompletionToolParam:
    return {
        "type": "function",
        "function": {
            "name": name,
            "strict": True,
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "enum": ["Oslo", "Rome"]}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }


TOOLS = [tool("weather"), tool("news")]


# -- formats -------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.0, 1.5])
async def test_an_answer_is_parsed_into_the_type_that_was_asked_for(
    client: AsyncOpenAI, temperature: float
) -> None:
    answer = await client.chat.completions.parse(
        model=MODEL, messages=ASK, response_format=State, temperature=temperature, seed=1, max_tokens=64, n=4
    )
    states = [choice.message.parsed for choice in answer.choices]
    assert all(isinstance(state, State) for state in states)
    async with client.chat.completions.stream(
        model=MODEL, messages=ASK, response_format=State, temperature=temperature, seed=1, max_tokens=64
    ) as stream:
        streamed = await stream.get_final_completion()
    assert streamed.choices[0].message.parsed == states[0]


async def test_an_answer_is_json_where_any_json_will_do(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model=MODEL, messages=ASK, response_format={"type": "json_object"}, temperature=0, max_tokens=96
    )
    content = answer.choices[0].message.content or ""
    assert content.lstrip().startswith("{")
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(content), dict)


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"guided_choice": ["yes, please", "no (thanks)"]}, r"yes, please|no \(thanks\)"),
        ({"guided_regex": "[0-9]{3}-[a-f]{2}"}, "[0-9]{3}-[a-f]{2}"),
        ({"structured_outputs": {"grammar": 'start: "a" ("b" | "c") "d"'}}, "a[bc]d"),
    ],
)
async def test_an_answer_matches_what_it_is_held_to_in_both_routes(
    client: AsyncOpenAI, options: dict[str, object], pattern: str
) -> None:
    chat = await client.chat.completions.create(
        model=MODEL, messages=ASK, temperature=1.5, max_tokens=32, extra_body=options
    )
    assert re.fullmatch(pattern, chat.choices[0].message.content or "")
    plain = await client.completions.create(
        model=MODEL, prompt=["The node", "The engine"], temperature=1.5, max_tokens=32, extra_body=options
    )
    assert all(re.fullmatch(pattern, choice.text) for choice in plain.choices)
    assert {choice.finish_reason for choice in plain.choices} == {"stop"}


@pytest.mark.parametrize(
    ("options", "param"),
    [
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"$ref": "#/$defs/nothing"}},
                }
            },
            "response_format",
        ),
        ({"guided_regex": "("}, "guided_regex"),
        ({"guided_grammar": "start: nothing"}, "guided_grammar"),
    ],
)
async def test_a_format_that_makes_no_sense_is_a_400_with_the_reason(
    client: AsyncOpenAI, options: dict[str, object], param: str
) -> None:
    for stream in (True, False):
        with pytest.raises(BadRequestError) as caught:
            await client.chat.completions.create(
                model=MODEL, messages=ASK, stream=stream, extra_body=options, max_tokens=8
            )
        assert caught.value.param == param


# -- tools ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "names", "reason"),
    [
        ("required", {"weather", "news"}, "tool_calls"),
        ({"type": "function", "function": {"name": "news"}}, {"news"}, "stop"),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [tool("weather")]}},
            {"weather"},
            "tool_calls",
        ),
    ],
)
async def test_a_call_that_is_asked_for_is_made_streamed_and_whole(
    client: AsyncOpenAI, choice: object, names: set[str], reason: str
) -> None:
    options = {"tools": TOOLS, "tool_choice": choice, "parallel_tool_calls": False}
    answer = await client.chat.completions.create(
        model=MODEL, messages=ASK, temperature=0, max_tokens=96, extra_body=options
    )
    assert answer.choices[0].finish_reason == reason
    (call,) = [call for call in answer.choices[0].message.tool_calls or () if call.type == "function"]
    assert call.function.name in names
    assert json.loads(call.function.arguments)["city"] in ("Oslo", "Rome")
    stream = await client.chat.completions.create(
        model=MODEL, messages=ASK, temperature=0, max_tokens=96, stream=True, extra_body=options
    )
    choices = [chunk.choices[0] async for chunk in stream]
    parts = [part for own in choices for part in own.delta.tool_calls or ()]
    assert [part.function.name for part in parts if part.function and part.id] == [call.function.name]
    arguments = [part.function.arguments or "" for part in parts if part.function]
    assert "".join(arguments) == call.function.arguments
    assert choices[-1].finish_reason == reason


# -- scores, usage, embeddings -------------------------------------------------------------------


async def test_a_prompt_is_scored_without_anything_being_generated(lenient: AsyncOpenAI) -> None:
    scored = await lenient.completions.create(
        model=MODEL, prompt="The node runs an engine", echo=True, logprobs=20, max_tokens=0
    )
    (choice,) = scored.choices
    assert (choice.text, choice.finish_reason) == ("The node runs an engine", "length")
    logprobs = choice.logprobs
    assert logprobs is not None
    tokens, top = logprobs.tokens or [], logprobs.top_logprobs or []
    chosen: list[float | None] = list(logprobs.token_logprobs or [])
    assert "".join(tokens) == choice.text
    assert logprobs.text_offset == [len("".join(tokens[:number])) for number in range(len(tokens))]
    first, *rest = chosen
    assert first is None
    assert all(logprob is not None and logprob <= 0 for logprob in rest)
    assert all(1 <= len(rivals) <= 21 for rivals in top[1:])  # those of the same text are one
    assert scored.usage is not None
    assert scored.usage.completion_tokens == 0


async def test_what_was_computed_before_is_not_computed_again(client: AsyncOpenAI) -> None:
    prompt = "A cluster of machines computes one model together. " * 60
    first = await client.completions.create(model=MODEL, prompt=prompt, temperature=0, max_tokens=4)
    again = await client.completions.create(model=MODEL, prompt=prompt, temperature=0, max_tokens=4)
    assert again.choices[0].text == first.choices[0].text
    assert again.usage is not None
    assert again.usage.prompt_tokens_details is not None
    cached = again.usage.prompt_tokens_details.cached_tokens or 0
    assert again.usage.prompt_tokens // 2 < cached < again.usage.prompt_tokens


async def test_a_model_that_was_not_made_for_embeddings_says_so(client: AsyncOpenAI) -> None:
    with pytest.raises(BadRequestError):
        await client.embeddings.create(model=MODEL, input="a", encoding_format="float")
