"""Embeddings as the official client reads them.

It asks for base64 by itself, which its own type for the answer does not know: it can't be strict then.
"""

import asyncio
import base64
import struct

import pytest
from openai import APIStatusError, AsyncOpenAI, BadRequestError

from bus.messages.generation import Prompt, RefusalCode, TextPrompt, TokenPrompt
from bus.messages.request import Order
from tests.api.raw import Answer, ask
from tests.api.scripted import Say, ScriptedGateway, playing, points, refused, silence


def data(answer: Answer) -> list[dict[str, object]]:
    """What a raw answer lists."""
    items = answer.json()["data"]
    assert isinstance(items, list)
    return items


@pytest.fixture(autouse=True)
def embedder(gateway: ScriptedGateway) -> None:
    gateway.script = points


@pytest.mark.parametrize(
    ("given", "prompts"),
    [
        ("a", (TextPrompt("a"),)),
        (["a", "b"], (TextPrompt("a"), TextPrompt("b"))),
        ([1, 2], (TokenPrompt((1, 2)),)),
        ([[1], [2, 3]], (TokenPrompt((1,)), TokenPrompt((2, 3)))),
    ],
)
async def test_each_form_of_input_has_one_embedding_each_in_order(
    lenient: AsyncOpenAI,
    gateway: ScriptedGateway,
    given: str | list[str] | list[int] | list[list[int]],
    prompts: tuple[Prompt, ...],
) -> None:
    found = await lenient.embeddings.create(model="some/model", input=given)
    assert (gateway.order.prompts, gateway.order.embed) == (prompts, True)
    assert (found.object, found.model) == ("list", "some/model")
    assert [(item.index, item.embedding) for item in found.data] == [
        (index, [3.0, 4.0, float(index)]) for index in range(len(prompts))
    ]
    assert found.usage.prompt_tokens == found.usage.total_tokens == 7 * len(prompts)


async def test_numbers_come_plain_or_as_base64(client: AsyncOpenAI, url: str) -> None:
    plain = await client.embeddings.create(model="m", input="a", encoding_format="float")
    assert plain.data[0].embedding == [3.0, 4.0, 0.0]
    packed = await ask(
        url, "POST", "/v1/embeddings", {"model": "m", "input": "a", "encoding_format": "base64"}
    )
    (item,) = data(packed)
    assert base64.b64decode(str(item["embedding"])) == struct.pack("<3f", 3, 4, 0)


@pytest.mark.parametrize("form", ["float", "base64"])
async def test_fewer_dimensions_are_brought_to_length_one(url: str, form: str) -> None:
    asked = {"model": "m", "input": "a", "dimensions": 2, "encoding_format": form}
    (item,) = data(await ask(url, "POST", "/v1/embeddings", asked))
    numbers = item["embedding"]
    if isinstance(numbers, str):
        numbers = list(struct.unpack("<2f", base64.b64decode(numbers)))
    assert numbers == pytest.approx([0.6, 0.8])


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"input": ["a", 1]}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": None}, "input"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": 4}, "dimensions"),
    ],
)
async def test_what_is_wrong_is_named(url: str, fields: dict[str, object], param: str) -> None:
    answer = await ask(url, "POST", "/v1/embeddings", {"model": "m", "input": "a"} | fields)
    assert (answer.status, answer.error["param"]) == (400, param)


async def test_as_many_inputs_as_openai_takes_are_taken_in_parts(
    lenient: AsyncOpenAI, gateway: ScriptedGateway
) -> None:
    texts = [str(number) for number in range(2048)]
    found = await lenient.embeddings.create(model="m", input=texts)
    assert [item.index for item in found.data] == list(range(2048))
    assert [item.embedding[2] for item in found.data[126:131]] == [126, 127, 0, 1, 2]
    assert found.usage.prompt_tokens == 7 * 2048
    asked = [generation.order for generation in gateway.generations]
    assert [len(order.prompts) for order in asked] == [128] * 16
    assert len({order.request for order in asked}) == 16
    assert tuple(prompt for order in asked for prompt in order.prompts) == tuple(map(TextPrompt, texts))


async def test_more_dimensions_than_there_are_cost_one_part_at_most(
    url: str, gateway: ScriptedGateway
) -> None:
    asked = {"model": "m", "input": ["a"] * 300, "dimensions": 4}
    answer = await ask(url, "POST", "/v1/embeddings", asked)
    assert (answer.status, answer.error["param"]) == (400, "dimensions")
    assert len(gateway.generations) == 1


async def test_a_part_that_is_refused_ends_the_whole(lenient: AsyncOpenAI, gateway: ScriptedGateway) -> None:
    async def second_refused(order: Order, say: Say) -> None:
        last = len(gateway.generations) == 2
        await (playing(refused(RefusalCode.CANCELLED, "stopped")) if last else points)(order, say)

    gateway.script = second_refused
    with pytest.raises(APIStatusError) as caught:
        await lenient.embeddings.create(model="m", input=["a"] * 300)
    assert caught.value.status_code == 499
    assert len(gateway.generations) == 2


async def test_what_is_taken_in_parts_is_cancelled_by_the_id_of_the_whole(
    gateway: ScriptedGateway, url: str
) -> None:
    async def second_waits(order: Order, say: Say) -> None:
        await (points if len(gateway.generations) == 1 else silence)(order, say)

    gateway.script = second_waits
    asked = asyncio.create_task(ask(url, "POST", "/v1/embeddings", {"model": "m", "input": ["a"] * 300}))
    first, second = await gateway.opened.get(), await gateway.opened.get()
    whole = first.request.removesuffix("-1")
    assert second.request == f"{whole}-2"
    assert (await ask(url, "POST", f"/v1/cancel/{whole}")).status == 200
    answer = await asked
    assert (answer.status, answer.error["code"]) == (499, "cancelled")
    assert answer.headers["x-request-id"] == whole
    assert len(gateway.generations) == 2
    assert (await ask(url, "POST", f"/v1/cancel/{whole}")).status == 404


@pytest.mark.parametrize(
    ("code", "param", "shown"),
    [
        (RefusalCode.INVALID, "model", "model"),
        (RefusalCode.INVALID, "prompt", "input"),
        (RefusalCode.CONTEXT_LENGTH, None, "input"),
    ],
)
async def test_what_the_engine_refuses_is_a_400_in_the_routes_own_words(
    client: AsyncOpenAI, gateway: ScriptedGateway, code: RefusalCode, param: str | None, shown: str
) -> None:
    gateway.script = playing(refused(code, "This model was not made for embeddings.", param=param))
    with pytest.raises(BadRequestError, match="not made") as caught:
        await client.embeddings.create(model="m", input="a")
    assert caught.value.param == shown
