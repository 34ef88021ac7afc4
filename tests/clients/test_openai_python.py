"""The official Python client, in strict validation, against a real node."""

import asyncio
import json
from collections.abc import Iterable

import aiohttp
import pytest
from openai import AsyncOpenAI, BadRequestError, NotFoundError
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam, ChatCompletionToolParam

from tests.clients.conftest import MODEL

MOMENTS_S = 30.0

ASK: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is exo_actors?"}]

TOOL: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


async def chunks(client: AsyncOpenAI, **options: object) -> list[ChatCompletionChunk]:
    stream = await client.chat.completions.create(
        model=MODEL, messages=ASK, stream=True, temperature=0, max_tokens=24, extra_body=options
    )
    return [chunk async for chunk in stream]


def text(parts: Iterable[ChatCompletionChunk], index: int = 0) -> str:
    choices = [choice for part in parts for choice in part.choices if choice.index == index]
    return "".join(choice.delta.content or "" for choice in choices)


async def whole(client: AsyncOpenAI, **options: object) -> str:
    answer = await client.chat.completions.create(
        model=MODEL, messages=ASK, temperature=0, max_tokens=24, extra_body=options
    )
    return answer.choices[0].message.content or ""


async def idle(node: str) -> None:
    """Wait until the engine says that it holds nothing for anybody."""
    async with asyncio.timeout(MOMENTS_S), aiohttp.ClientSession() as session:
        async with session.get(f"{node}/v1/cluster/events") as events:
            async for line in events.content:
                if line.startswith(b"data: ") and await is_idle(session, node):
                    return


async def is_idle(session: aiohttp.ClientSession, node: str) -> bool:
    async with session.get(f"{node}/v1/cluster") as response:
        state = await response.json()
    held = [
        (i["running"], i["prefilling"], i["waiting"], i["kv_bytes"] - i["prefix_bytes"])
        for i in state["instances"]
    ]
    return held == [(0, 0, 0, 0)] and state["requests"] == []


# -- models --------------------------------------------------------------------------------------


async def test_the_built_in_model_is_listed(client: AsyncOpenAI) -> None:
    listed = await client.models.list()
    assert MODEL in [model.id for model in listed.data]
    assert (await client.models.retrieve(MODEL)).owned_by == "exo_actors"


async def test_an_unknown_model_is_404(client: AsyncOpenAI) -> None:
    with pytest.raises(NotFoundError):
        await client.models.retrieve("nobody/nothing")
    for stream in (True, False):
        with pytest.raises(NotFoundError) as caught:
            await client.chat.completions.create(model="nobody/nothing", messages=ASK, stream=stream)
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


# -- chat ----------------------------------------------------------------------------------------


async def test_streamed_and_whole_answers_are_the_same(client: AsyncOpenAI) -> None:
    streamed = await chunks(client)
    assert text(streamed) == await whole(client) != ""
    assert [chunk.choices[0].delta.role for chunk in streamed].count("assistant") == 1
    assert [chunk.choices[0].finish_reason for chunk in streamed].count(None) == len(streamed) - 1
    assert len({(c.id, c.created, c.model, c.system_fingerprint) for c in streamed}) == 1


async def test_an_answer_without_a_limit_runs_to_its_end(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model=MODEL, messages=ASK, temperature=0)
    assert answer.choices[0].finish_reason == "stop"


async def test_usage_is_the_same_streamed_and_whole(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model=MODEL, messages=ASK, temperature=0, max_tokens=24)
    last = (await chunks(client, stream_options={"include_usage": True}))[-1]
    assert last.choices == []
    assert last.usage is not None
    assert answer.usage is not None
    # What was kept from before differs: the second time it is more.
    assert last.usage.completion_tokens_details == answer.usage.completion_tokens_details
    assert last.usage.completion_tokens == answer.usage.completion_tokens
    assert last.usage.prompt_tokens == answer.usage.prompt_tokens
    assert last.usage.prompt_tokens > 0
    assert last.usage.total_tokens == last.usage.prompt_tokens + last.usage.completion_tokens


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_a_limit_of_tokens_ends_with_length(client: AsyncOpenAI, field: str) -> None:
    answer = await client.chat.completions.create(
        model=MODEL, messages=ASK, extra_body={field: 3, "ignore_eos": True}
    )
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


async def test_a_stop_string_is_never_shown_even_across_tokens(client: AsyncOpenAI) -> None:
    full = await whole(client)
    middle = len(full) // 2
    stop = full[middle : middle + 4]
    assert await whole(client, stop=stop) == full[: full.index(stop)]
    assert await whole(client, stop=["never there", stop]) == full[: full.index(stop)]
    assert text(await chunks(client, stop=stop)) == full[: full.index(stop)]


async def test_a_seed_gives_the_same_text_in_any_company(client: AsyncOpenAI) -> None:
    async def seeded(seed: int) -> str:
        answer = await client.chat.completions.create(
            model=MODEL, messages=ASK, seed=seed, temperature=1.5, max_tokens=16
        )
        return answer.choices[0].message.content or ""

    alone = await seeded(-5)
    among = await asyncio.gather(*(seeded(seed) for seed in (-5, 1, 2, 3, -5)))
    assert among[0] == among[4] == alone
    assert len(set(among)) > 1


async def test_n_answers_are_independent_and_reproducible(client: AsyncOpenAI) -> None:
    options = {"n": 4, "seed": 3, "temperature": 1.8, "max_tokens": 16}
    streamed = await chunks(client, **options)
    texts = [text(streamed, index) for index in range(4)]
    answer = await client.chat.completions.create(model=MODEL, messages=ASK, extra_body=options)
    assert [choice.message.content for choice in answer.choices] == texts
    assert len(set(texts)) > 1


async def test_logprobs_are_the_texts_own_tokens(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model=MODEL, messages=ASK, temperature=0, max_tokens=8, logprobs=True, top_logprobs=5
    )
    choice = answer.choices[0]
    assert choice.logprobs is not None
    entries = choice.logprobs.content or []
    assert "".join(entry.token for entry in entries).startswith(choice.message.content or "?")
    for entry in entries:
        assert entry.logprob <= 0
        assert len(entry.top_logprobs) == 5
        assert entry.top_logprobs[0].token == entry.token
        ranked = [rival.logprob for rival in entry.top_logprobs]
        assert ranked == sorted(ranked, reverse=True)
    streamed = await chunks(client, logprobs=True, top_logprobs=5, max_tokens=8)
    found = [e for c in streamed if (own := c.choices[0].logprobs) for e in own.content or ()]
    assert [entry.token for entry in found] == [entry.token for entry in entries]


async def test_logit_bias_forbids_and_forces(client: AsyncOpenAI) -> None:
    free = await client.completions.create(model=MODEL, prompt="The", temperature=0, max_tokens=4)
    biased = await client.completions.create(
        model=MODEL, prompt="The", temperature=0, max_tokens=4, logit_bias={"20": 100}
    )
    assert biased.choices[0].text != free.choices[0].text
    with pytest.raises(BadRequestError) as caught:
        await client.completions.create(model=MODEL, prompt="The", logit_bias={"99999999": 1})
    assert caught.value.param == "logit_bias"


async def test_a_tool_that_is_offered_is_called(client: AsyncOpenAI) -> None:
    question: list[ChatCompletionMessageParam] = [
        {"role": "user", "content": "What is the weather in Paris?"}
    ]
    answer = await client.chat.completions.create(model=MODEL, messages=question, tools=[TOOL], temperature=0)
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    (call,) = [call for call in choice.message.tool_calls or () if call.type == "function"]
    assert call.function.name == "get_weather"
    assert set(json.loads(call.function.arguments)) == {"city"}
    stream = await client.chat.completions.create(
        model=MODEL, messages=question, tools=[TOOL], temperature=0, stream=True
    )
    parts = [part async for chunk in stream for part in chunk.choices[0].delta.tool_calls or ()]
    assert (
        "".join((part.function and part.function.arguments) or "" for part in parts)
        == call.function.arguments
    )
    assert [part.id for part in parts if part.id] != []


async def test_with_tool_choice_none_no_tool_is_called(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "What is the weather in Paris?"}],
        tools=[TOOL],
        tool_choice="none",
        temperature=0,
        max_tokens=32,
    )
    assert not answer.choices[0].message.tool_calls


async def test_too_long_a_conversation_is_refused(client: AsyncOpenAI) -> None:
    long: list[ChatCompletionMessageParam] = [{"role": "user", "content": "word " * 20_000}]
    for stream in (True, False):
        with pytest.raises(BadRequestError) as caught:
            await client.chat.completions.create(model=MODEL, messages=long, stream=stream)
        assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")


# -- plain completions ---------------------------------------------------------------------------


async def test_each_form_of_prompt(client: AsyncOpenAI) -> None:
    prompts: tuple[str | list[str] | list[int] | list[list[int]], ...] = (
        "The node",
        ["The node", "The engine", "The page"],
        [20, 21, 22],
        [[20, 21, 22], [23]],
    )
    for prompt in prompts:
        answer = await client.completions.create(model=MODEL, prompt=prompt, temperature=0, max_tokens=4)
        count = 1 if isinstance(prompt, str) or isinstance(prompt[0], int) else len(prompt)
        assert [choice.index for choice in answer.choices] == list(range(count))


async def test_a_list_of_prompts_answers_each_as_if_alone(client: AsyncOpenAI) -> None:
    prompts = ["The node", "The engine", "A model is"]
    together = await client.completions.create(model=MODEL, prompt=prompts, temperature=0, max_tokens=6)
    for choice, prompt in zip(together.choices, prompts, strict=True):
        alone = await client.completions.create(model=MODEL, prompt=prompt, temperature=0, max_tokens=6)
        assert choice.text == alone.choices[0].text


async def test_an_echo_begins_with_the_prompt(client: AsyncOpenAI, lenient: AsyncOpenAI) -> None:
    answer = await client.completions.create(
        model=MODEL, prompt="The node", echo=True, temperature=0, max_tokens=4
    )
    assert answer.choices[0].text.startswith("The node")
    stream = await lenient.completions.create(
        model=MODEL, prompt="The node", echo=True, temperature=0, max_tokens=4, stream=True
    )
    assert "".join([chunk.choices[0].text async for chunk in stream]) == answer.choices[0].text


async def test_completion_logprobs_are_lists_of_one_length(client: AsyncOpenAI) -> None:
    answer = await client.completions.create(
        model=MODEL, prompt="The node", temperature=0, max_tokens=6, logprobs=3
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    tokens, offsets = logprobs.tokens or [], logprobs.text_offset or []
    assert len(tokens) == len(logprobs.token_logprobs or []) == len(logprobs.top_logprobs or [])
    assert "".join(tokens).startswith(answer.choices[0].text)
    assert offsets == [len("".join(tokens[:number])) for number in range(len(tokens))]


async def test_an_empty_prompt_does_no_harm(client: AsyncOpenAI) -> None:
    with pytest.raises(BadRequestError) as caught:
        await client.completions.create(model=MODEL, prompt="", max_tokens=2)
    assert caught.value.param == "prompt"
    assert await whole(client)


# -- leaving -------------------------------------------------------------------------------------


async def test_a_stream_that_is_closed_leaves_the_engine_idle(client: AsyncOpenAI, node: str) -> None:
    stream = await client.chat.completions.create(
        model=MODEL, messages=ASK, stream=True, extra_body={"ignore_eos": True}
    )
    async for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    await stream.close()
    await idle(node)


async def test_a_whole_request_that_is_dropped_leaves_the_engine_idle(client: AsyncOpenAI, node: str) -> None:
    request = asyncio.create_task(
        client.chat.completions.create(model=MODEL, messages=ASK, n=8, extra_body={"ignore_eos": True})
    )
    await busy(node)
    request.cancel()
    await asyncio.wait((request,))
    await idle(node)


async def busy(node: str) -> None:
    """Wait until somebody's tokens are being decoded."""
    async with asyncio.timeout(MOMENTS_S), aiohttp.ClientSession() as session:
        async with session.get(f"{node}/v1/cluster/events") as events:
            async for line in events.content:
                if b'"state":"decode"' in line:
                    return


async def test_the_stop_button_ends_a_stream_with_an_error(client: AsyncOpenAI, node: str) -> None:
    stream = await client.chat.completions.create(
        model=MODEL, messages=ASK, stream=True, extra_body={"ignore_eos": True}
    )
    first = await anext(stream)
    stopped = await client.post(f"/cancel/{first.id}", cast_to=object)
    assert stopped == {"id": first.id, "object": "request.cancelled", "cancelled": True}
    with pytest.raises(Exception, match="cancel"):
        async for _ in stream:
            pass
    await idle(node)
