"""OpenAI's older form of tools, as its official client still sends it and reads what comes of it."""

import json

import pytest
from openai import AsyncOpenAI, BadRequestError
from openai.types.chat import ChatCompletionMessageParam
from openai.types.chat.completion_create_params import Function

from api.errors import ApiError
from api.schema import ChatBody, decode
from api.tools import Offer, offer_of
from bus.messages.generation import (
    CallFormat,
    ChatMessage,
    ChatPrompt,
    FinishReason,
    RefusalCode,
    ToolCall,
    ToolCallDelta,
)
from bus.messages.request import Chunk
from tests.api.chatting import HI, collect
from tests.api.scripted import ScriptedGateway, answering, finish, playing, refused

WEATHER: Function = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {}}}}

CALL = answering(
    Chunk(0, tool_calls=(ToolCallDelta(0, "call_1", "weather"),), generated=1),
    Chunk(0, tool_calls=(ToolCallDelta(0, arguments='{"city":'),), generated=2),
    Chunk(
        0,
        tool_calls=(ToolCallDelta(0, arguments='"Oslo"}'),),
        generated=3,
        finish=finish(3, FinishReason.TOOL_CALLS),
    ),
)


async def test_a_call_is_one_function_call_and_the_finish_says_so(
    client: AsyncOpenAI, gateway: ScriptedGateway
) -> None:
    gateway.script = CALL
    answer = await client.chat.completions.create(model="m", messages=HI, functions=[WEATHER])
    (choice,) = answer.choices
    assert choice.finish_reason == "function_call"
    assert (choice.message.content, choice.message.tool_calls) == (None, None)
    assert choice.message.function_call is not None
    assert choice.message.function_call.to_dict() == {"name": "weather", "arguments": '{"city":"Oslo"}'}


async def test_a_streamed_call_opens_with_its_name_then_has_arguments(
    client: AsyncOpenAI, gateway: ScriptedGateway
) -> None:
    gateway.script = CALL
    chunks = await collect(client, functions=[WEATHER])
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert [delta.function_call.to_dict() for delta in deltas if delta.function_call] == [
        {"name": "weather", "arguments": ""},
        {"arguments": '{"city":'},
        {"arguments": '"Oslo"}'},
    ]
    assert all(delta.tool_calls is None for delta in deltas)
    assert chunks[-1].choices[0].finish_reason == "function_call"


async def test_an_answer_without_a_call_is_like_any_other(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="m", messages=HI, functions=[WEATHER])
    (choice,) = answer.choices
    assert (choice.message.content, choice.finish_reason) == ("Hello 0", "stop")
    assert choice.message.function_call is None


async def test_a_function_that_is_named_is_called_and_ends_with_stop(
    client: AsyncOpenAI, gateway: ScriptedGateway
) -> None:
    gateway.script = CALL
    answer = await client.chat.completions.create(
        model="m", messages=HI, functions=[WEATHER], function_call={"name": "weather"}
    )
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.function_call is not None
    assert (gateway.order.format, gateway.order.stopping.calls) == (CallFormat("weather"), 1)


async def test_the_model_sees_tools_and_the_calls_and_results_so_far(
    client: AsyncOpenAI, gateway: ScriptedGateway
) -> None:
    messages: list[ChatCompletionMessageParam] = [
        {"role": "user", "content": "Rain in Oslo?"},
        {
            "role": "assistant",
            "content": None,
            "function_call": {"name": "weather", "arguments": '{"city":"Oslo"}'},
        },
        {"role": "function", "name": "weather", "content": "rain"},
    ]
    await client.chat.completions.create(model="m", messages=messages, functions=[WEATHER])
    (prompt,) = gateway.order.prompts
    assert isinstance(prompt, ChatPrompt)
    assert [json.loads(tool) for tool in prompt.tools] == [{"type": "function", "function": WEATHER}]
    assert prompt.messages[1:] == (
        ChatMessage("assistant", None, tool_calls=(ToolCall("call_0", "weather", '{"city":"Oslo"}'),)),
        ChatMessage("tool", "rain", name="weather"),
    )


async def test_what_the_engine_refuses_of_them_is_told_in_their_own_words(
    client: AsyncOpenAI, gateway: ScriptedGateway
) -> None:
    gateway.script = playing(refused(RefusalCode.INVALID, "it does not call", param="tool_choice"))
    with pytest.raises(BadRequestError) as caught:
        await client.chat.completions.create(
            model="m", messages=HI, functions=[WEATHER], function_call={"name": "weather"}
        )
    assert caught.value.param == "function_call"


def body(**fields: object) -> ChatBody:
    whole = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]} | fields
    return decode(json.dumps(whole).encode(), ChatBody)


@pytest.mark.parametrize("choice", [None, "auto", "none"])
def test_without_functions_there_is_nothing_to_choose(choice: str | None) -> None:
    assert offer_of(body(functions=[], function_call=choice)) == Offer()


def test_none_of_them_is_offered_where_none_may_be_called() -> None:
    assert offer_of(body(functions=[WEATHER], function_call="none")) == Offer()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"functions": [WEATHER], "tools": [{"type": "function", "function": WEATHER}]}, "functions"),
        ({"functions": [WEATHER], "tool_choice": "auto"}, "functions"),
        ({"functions": [WEATHER], "function_call": "required"}, "function_call"),
        ({"functions": [WEATHER], "function_call": {"name": "f"}}, "function_call"),
        ({"functions": [WEATHER], "function_call": {}}, "function_call.name"),
        ({"function_call": {"name": "f"}}, "function_call"),
        ({"functions": [{}]}, "functions[0].name"),
        ({"functions": [{"name": "f", "parameters": 5}]}, "functions[0].parameters"),
    ],
)
def test_what_can_not_be_called_is_a_400_that_names_the_field(fields: dict[str, object], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        offer_of(body(**fields))
    assert (caught.value.fault.status, caught.value.fault.param) == (400, param)
