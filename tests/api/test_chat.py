"""Chat completions as the official client reads them, in strict validation."""

import json

import pytest
from openai import AsyncOpenAI, BadRequestError
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel

from bus.messages.generation import (
    ChatMessage,
    ChatPrompt,
    FinishReason,
    JsonFormat,
    RefusalCode,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    TopLogprob,
)
from bus.messages.request import Chunk
from tests.api.scripted import ScriptedGateway, answering, finish, playing, refused

HI: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hi"}]

TOOL: ChatCompletionToolParam = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {}}}},
}

CALLS = answering(
    Chunk(0, tool_calls=(ToolCallDelta(0, "call_1", "weather"),), generated=1),
    Chunk(0, tool_calls=(ToolCallDelta(0, arguments='{"city":'),), generated=2),
    Chunk(
        0,
        tool_calls=(
            ToolCallDelta(0, arguments='"Oslo'),
            ToolCallDelta(0, arguments='"}'),
            ToolCallDelta(1, "call_2", "weather", '{"city":'),
            ToolCallDelta(1, arguments='"Rome"}'),
        ),
        generated=3,
        finish=finish(3, FinishReason.TOOL_CALLS),
    ),
)

STRICT: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


class City(BaseModel):
    """What an answer is to say of a city."""

    name: str
    people: int


THINKING = answering(
    Chunk(0, reasoning="Let me", generated=1),
    Chunk(0, reasoning=" see.", generated=2),
    Chunk(0, "Yes.", generated=3, finish=finish(3)),
)

LIKELY = TokenLogprob(
    5, "Hé", "Hé".encode(), -0.5, (TopLogprob(9, "x", b"x", -3.0), TopLogprob(5, "Hé", "Hé".encode(), -0.5))
)
IMPOSSIBLE = TokenLogprob(6, "!", b"!", float("-inf"))


async def collect(client: AsyncOpenAI, **options: object) -> list[ChatCompletionChunk]:
    stream = await client.chat.completions.create(model="m", messages=HI, stream=True, extra_body=options)
    return [chunk async for chunk in stream]


async def test_a_whole_answer_has_its_text_its_finish_and_its_usage(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="some/model", messages=HI)
    assert answer.id.startswith("chatcmpl-")
    assert answer.model == "some/model"
    assert answer.created > 1_700_000_000
    assert answer.system_fingerprint
    (choice,) = answer.choices
    assert (choice.index, choice.message.content, choice.finish_reason) == (0, "Hello 0", "stop")
    assert choice.logprobs is None
    assert choice.message.tool_calls is None
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (
        7,
        2,
        9,
    )
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 3


async def test_the_response_carries_the_id_that_cancels_it(client: AsyncOpenAI) -> None:
    response = await client.chat.completions.with_raw_response.create(model="m", messages=HI)
    assert response.headers["x-request-id"] == (response.parse()).id


async def test_a_stream_names_the_role_once_then_the_text_then_the_finish(client: AsyncOpenAI) -> None:
    chunks = await collect(client)
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert [delta.role for delta in deltas] == ["assistant", None, None, None]
    assert [delta.content for delta in deltas] == ["", "Hello", " 0", None]
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None, None, None, "stop"]
    assert all(chunk.usage is None for chunk in chunks)


async def test_all_chunks_of_a_stream_have_the_same_heading(client: AsyncOpenAI) -> None:
    chunks = await collect(client)
    assert len({(c.id, c.created, c.model, c.system_fingerprint, c.object) for c in chunks}) == 1


async def test_include_usage_adds_one_chunk_without_choices(client: AsyncOpenAI) -> None:
    *rest, last = await collect(client, stream_options={"include_usage": True})
    assert last.choices == []
    assert last.object == "chat.completion.chunk"
    assert last.usage is not None
    assert last.usage.total_tokens == 9
    assert all(chunk.usage is None and chunk.choices for chunk in rest)


async def test_continuous_usage_counts_in_every_chunk(client: AsyncOpenAI) -> None:
    chunks = await collect(client, stream_options={"continuous_usage_stats": True})
    assert [chunk.usage.completion_tokens for chunk in chunks if chunk.usage] == [0, 1, 2, 2]
    assert {chunk.usage.prompt_tokens for chunk in chunks if chunk.usage} == {7}


async def test_n_answers_come_whole_and_in_order(client: AsyncOpenAI, gateway: ScriptedGateway) -> None:
    answer = await client.chat.completions.create(model="m", messages=HI, n=3)
    assert [(c.index, c.message.content) for c in answer.choices] == [
        (0, "Hello 0"),
        (1, "Hello 1"),
        (2, "Hello 2"),
    ]
    assert gateway.order.n == 3


async def test_n_streamed_answers_each_have_a_role_and_a_finish(client: AsyncOpenAI) -> None:
    chunks = await collect(client, n=2)
    for index in (0, 1):
        own = [c.choices[0] for c in chunks if c.choices[0].index == index]
        assert [choice.delta.role for choice in own].count("assistant") == 1
        assert "".join(choice.delta.content or "" for choice in own) == f"Hello {index}"
        assert own[-1].finish_reason == "stop"


async def test_logprobs_are_text_and_bytes_with_rivals_sorted(
    client: AsyncOpenAI, gateway: ScriptedGateway
) -> None:
    gateway.script = answering(Chunk(0, "Hé!", logprobs=(LIKELY, IMPOSSIBLE), generated=2, finish=finish(2)))
    answer = await client.chat.completions.create(model="m", messages=HI, logprobs=True, top_logprobs=2)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    first, second = logprobs.content
    assert (first.token, first.bytes, first.logprob) == ("Hé", list("Hé".encode()), -0.5)
    assert [top.token for top in first.top_logprobs] == ["Hé", "x"]
    assert second.logprob == -9999.0
    assert gateway.order.logprobs == 2


async def test_streamed_logprobs_come_with_their_text(client: AsyncOpenAI, gateway: ScriptedGateway) -> None:
    gateway.script = answering(
        Chunk(0, logprobs=(LIKELY,), generated=1),
        Chunk(0, "Hé!", logprobs=(IMPOSSIBLE,), generated=2, finish=finish(2)),
    )
    chunks = await collect(client, logprobs=True)
    entries = [
        entry.token
        for chunk in chunks
        if chunk.choices[0].logprobs
        for entry in chunk.choices[0].logprobs.content or ()
    ]
    assert entries == ["Hé", "!"]
    assert gateway.order.logprobs == 0


async def test_reasoning_goes_by_both_its_names(client: AsyncOpenAI, gateway: ScriptedGateway) -> None:
    gateway.script = THINKING
    answer = await client.chat.completions.create(model="m", messages=HI)
    message = answer.choices[0].message.to_dict()
    assert message["reasoning_content"] == message["reasoning"] == "Let me see."
    assert message["content"] == "Yes."


async def test_streamed_reasoning_is_apart_from_the_content(
    client: AsyncOpenAI, gateway: ScriptedGateway
) -> None:
    gateway.script = THINKING
    deltas = [chunk.choices[0].delta.to_dict() for chunk in await collect(client)]
    assert [d.get("reasoning_content") for d in deltas] == [None, "Let me", " see.", None, None]
    assert [d.get("reasoning") for d in deltas] == [None, "Let me", " see.", None, None]
    assert [d.get("content") for d in deltas] == ["", None, None, "Yes.", None]


async def test_tool_calls_leave_the_content_null(client: AsyncOpenAI, gateway: ScriptedGateway) -> None:
    gateway.script = CALLS
    answer = await client.chat.completions.create(model="m", messages=HI, tools=[TOOL])
    choice = answer.choices[0]
    assert choice.message.content is None
    assert choice.finish_reason == "tool_calls"
    calls = [call for call in choice.message.tool_calls or () if call.type == "function"]
    assert [(call.id, call.function.name, call.function.arguments) for call in calls] == [
        ("call_1", "weather", '{"city":"Oslo"}'),
        ("call_2", "weather", '{"city":"Rome"}'),
    ]


async def test_a_streamed_tool_call_opens_with_its_name_then_has_arguments(
    client: AsyncOpenAI, gateway: ScriptedGateway
) -> None:
    gateway.script = CALLS
    chunks = await collect(client, tools=[TOOL])
    parts = [part for chunk in chunks for part in chunk.choices[0].delta.tool_calls or ()]
    assert [(part.index, part.id, part.type) for part in parts] == [
        (0, "call_1", "function"),
        (0, None, None),
        (0, None, None),
        (1, "call_2", "function"),
        (1, None, None),
    ]
    functions = [part.function for part in parts if part.function]
    assert [function.name for function in functions] == ["weather", None, None, "weather", None]
    assert [function.arguments for function in functions] == [
        "",
        '{"city":',
        '"Oslo"}',
        "",
        '{"city":"Rome"}',
    ]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


async def test_the_stream_helper_puts_tool_calls_together(
    client: AsyncOpenAI, gateway: ScriptedGateway
) -> None:
    gateway.script = CALLS
    async with client.chat.completions.stream(model="m", messages=HI, tools=[STRICT]) as stream:
        kinds = [event.type async for event in stream]
        answer = await stream.get_final_completion()
    assert "tool_calls.function.arguments.done" in kinds
    calls = answer.choices[0].message.tool_calls or []
    assert [call.function.parsed_arguments for call in calls] == [{"city": "Oslo"}, {"city": "Rome"}]


async def test_an_answer_that_keeps_to_a_schema_is_parsed_by_the_client(
    client: AsyncOpenAI, gateway: ScriptedGateway
) -> None:
    gateway.script = answering(
        Chunk(0, '{"name":"Oslo",', generated=1), Chunk(0, '"people":709000}', generated=2, finish=finish(2))
    )
    answer = await client.chat.completions.parse(model="m", messages=HI, response_format=City)
    assert answer.choices[0].message.parsed == City(name="Oslo", people=709000)
    assert isinstance(gateway.order.format, JsonFormat)
    assert gateway.order.format.name == "City"
    assert set(json.loads(gateway.order.format.schema)["properties"]) == {"name", "people"}
    async with client.chat.completions.stream(model="m", messages=HI, response_format=City) as stream:
        final = await stream.get_final_completion()
    assert final.choices[0].message.parsed == City(name="Oslo", people=709000)


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        ("auto", "tool_calls"),
        ("required", "tool_calls"),
        ({"type": "function", "function": {"name": "weather"}}, "stop"),
    ],
)
async def test_only_a_call_of_a_named_function_ends_with_stop_as_at_openai(
    client: AsyncOpenAI, gateway: ScriptedGateway, choice: object, reason: str
) -> None:
    gateway.script = CALLS
    options = {"tools": [TOOL], "tool_choice": choice}
    answer = await client.chat.completions.create(model="m", messages=HI, extra_body=options)
    assert answer.choices[0].finish_reason == reason
    assert (await collect(client, **options))[-1].choices[0].finish_reason == reason


async def test_an_answer_that_was_cut_short_says_so_whatever_was_called(
    client: AsyncOpenAI, gateway: ScriptedGateway
) -> None:
    gateway.script = answering(
        Chunk(
            0,
            tool_calls=(ToolCallDelta(0, "call_1", "weather", '{"ci'),),
            generated=1,
            finish=finish(1, FinishReason.LENGTH),
        )
    )
    answer = await client.chat.completions.create(
        model="m",
        messages=HI,
        tools=[TOOL],
        tool_choice={"type": "function", "function": {"name": "weather"}},
    )
    assert answer.choices[0].finish_reason == "length"


@pytest.mark.parametrize("options", [{"include_reasoning": False}, {"reasoning": {"exclude": True}}])
async def test_reasoning_can_be_left_out_of_the_answer(
    client: AsyncOpenAI, gateway: ScriptedGateway, options: dict[str, object]
) -> None:
    gateway.script = THINKING
    answer = await client.chat.completions.create(model="m", messages=HI, extra_body=options)
    message = answer.choices[0].message.to_dict()
    assert message["content"] == "Yes."
    assert not {"reasoning", "reasoning_content"} & set(message)
    deltas = [chunk.choices[0].delta.to_dict() for chunk in await collect(client, **options)]
    assert [delta.get("content") for delta in deltas] == ["", "Yes.", None]
    assert not any({"reasoning", "reasoning_content"} & set(delta) for delta in deltas)


async def test_what_only_the_engine_can_see_in_a_schema_is_a_400_too(
    client: AsyncOpenAI, gateway: ScriptedGateway
) -> None:
    gateway.script = playing(
        refused(RefusalCode.INVALID, "Unresolvable $ref: '#/$defs/x'", param="response_format")
    )
    schema: dict[str, object] = {"$ref": "#/$defs/x"}
    for stream in (True, False):
        with pytest.raises(BadRequestError, match="Unresolvable") as caught:
            await client.chat.completions.create(
                model="m",
                messages=HI,
                stream=stream,
                response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
            )
        assert caught.value.param == "response_format"


async def test_tools_reach_the_template_as_they_were_written(
    client: AsyncOpenAI, gateway: ScriptedGateway
) -> None:
    await client.chat.completions.create(model="m", messages=HI, tools=[TOOL], tool_choice="auto")
    (prompt,) = gateway.order.prompts
    assert isinstance(prompt, ChatPrompt)
    assert [json.loads(tool) for tool in prompt.tools] == [TOOL]


async def test_tool_choice_none_offers_no_tools(client: AsyncOpenAI, gateway: ScriptedGateway) -> None:
    await client.chat.completions.create(model="m", messages=HI, tools=[TOOL], tool_choice="none")
    (prompt,) = gateway.order.prompts
    assert isinstance(prompt, ChatPrompt)
    assert prompt.tools == ()


async def test_a_whole_conversation_is_understood(client: AsyncOpenAI, gateway: ScriptedGateway) -> None:
    await client.chat.completions.create(
        model="m",
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": " you"}]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
                ],
            },
            {"role": "tool", "tool_call_id": "c", "content": "rain"},
        ],
    )
    assert gateway.order.prompts == (
        ChatPrompt(
            (
                ChatMessage("system", "Be brief."),
                ChatMessage("user", "Hi you"),
                ChatMessage("assistant", None, tool_calls=(ToolCall("c", "weather", "{}"),)),
                ChatMessage("tool", "rain", tool_call_id="c"),
            )
        ),
    )


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"modalities": ["text", "audio"], "audio": {"voice": "x", "format": "wav"}}, "modalities"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"min_tokens": 5}, "min_tokens"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages[0].content[0].type",
        ),
    ],
)
async def test_what_is_not_served_yet_is_refused_and_said_so(
    client: AsyncOpenAI, gateway: ScriptedGateway, options: dict[str, object], param: str
) -> None:
    with pytest.raises(BadRequestError) as caught:
        await client.chat.completions.create(model="m", messages=HI, extra_body=options)
    assert caught.value.param == param
    assert caught.value.code == "unsupported_value"
    assert "not served yet" in str(caught.value)
    assert gateway.generations == []
