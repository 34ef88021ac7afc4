"""What a chat's answer is made of besides text: reasoning, tool calls, and what a schema describes."""

import json

import pytest
from openai import AsyncOpenAI, BadRequestError
from openai.types.chat import ChatCompletionToolParam
from pydantic import BaseModel

from bus.messages.generation import ChatPrompt, FinishReason, JsonFormat, RefusalCode, ToolCallDelta
from bus.messages.request import Chunk
from tests.api.chatting import HI, collect
from tests.api.scripted import ScriptedGateway, answering, finish, playing, refused

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
    named = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    for asked, param in (
        ({"response_format": named}, "response_format"),
        ({"guided_json": schema, "stream": True}, "guided_json"),
        ({"structured_outputs": {"json": schema}}, "structured_outputs"),
        ({"tools": [TOOL], "tool_choice": "required"}, "tools"),
    ):
        with pytest.raises(BadRequestError, match="Unresolvable") as caught:
            await client.chat.completions.create(model="m", messages=HI, extra_body=asked)
        assert caught.value.param == param


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
