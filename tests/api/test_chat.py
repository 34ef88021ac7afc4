"""Chat completions as the official client reads them, in strict validation."""

import pytest
from openai import AsyncOpenAI, BadRequestError

from bus.messages.generation import (
    ChatMessage,
    ChatPrompt,
    Finish,
    FinishReason,
    TokenLogprob,
    ToolCall,
    TopLogprob,
)
from bus.messages.request import Chunk
from tests.api.chatting import HI, collect
from tests.api.scripted import ScriptedGateway, answering, finish

LIKELY = TokenLogprob(
    5, "Hé", "Hé".encode(), -0.5, (TopLogprob(9, "x", b"x", -3.0), TopLogprob(5, "Hé", "Hé".encode(), -0.5))
)
IMPOSSIBLE = TokenLogprob(6, "!", b"!", float("-inf"))


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


async def test_continuous_usage_knows_what_was_kept_of_each_prompt_and_what_was_reasoned(
    client: AsyncOpenAI, gateway: ScriptedGateway
) -> None:
    gateway.script = answering(
        Chunk(0, "a", generated=1, cached=5),
        Chunk(1, "b", generated=1, cached=6),
        Chunk(1, "b", generated=2, cached=6, finish=Finish(FinishReason.STOP, 2, reasoning_tokens=1)),
        Chunk(0, "a", generated=2, cached=5, finish=Finish(FinishReason.STOP, 2, reasoning_tokens=1)),
    )
    chunks = await collect(client, n=2, stream_options={"continuous_usage_stats": True})
    usages = [chunk.usage for chunk in chunks if chunk.usage]
    cached = [usage.prompt_tokens_details.cached_tokens for usage in usages if usage.prompt_tokens_details]
    reasoned = [
        usage.completion_tokens_details.reasoning_tokens
        for usage in usages
        if usage.completion_tokens_details
    ]
    assert cached == [0, 0, 5, 5, 5, 5, 5, 5]
    assert reasoned == [0, 0, 0, 0, 1, 1, 2, 2]


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
