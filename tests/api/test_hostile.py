"""Whatever is sent, it gets an answer, and the server serves on."""

import copy
import json
import random
from collections.abc import Callable
from functools import partial

import pytest

from bus.messages.generation import RefusalCode
from bus.messages.request import Order
from tests.api.raw import Answer, ask, connected
from tests.api.scripted import Say, ScriptedGateway, either, hello, refused

BODIES: dict[str, dict[str, object]] = {
    "/v1/chat/completions": {
        "model": "m",
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": [{"type": "text", "text": "t"}]},
            {
                "role": "assistant",
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
        ],
        "stream": False,
        "stream_options": {"include_usage": True},
        "temperature": 1.0,
        "top_p": 0.9,
        "max_tokens": 5,
        "n": 2,
        "stop": ["a"],
        "seed": 1,
        "logit_bias": {"5": 1},
        "logprobs": True,
        "top_logprobs": 3,
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "tool_choice": {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]},
        },
        "top_k": 5,
        "chat_template_kwargs": {"a": 1},
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "x", "schema": {"type": "object"}, "strict": True},
        },
        "reasoning_effort": "low",
        "reasoning": {"effort": "low", "max_tokens": 5, "exclude": False},
        "thinking": {"type": "enabled", "budget_tokens": 5},
        "priority": 1,
    },
    "/v1/completions": {
        "model": "m",
        "prompt": ["a", "b"],
        "stream": True,
        "echo": True,
        "max_tokens": 5,
        "logit_bias": {"1": 0.5},
        "stop": "x",
        "seed": -1,
        "frequency_penalty": 1,
        "structured_outputs": {"choice": ["a", "b"]},
    },
    "/v1/embeddings": {
        "model": "m",
        "input": ["a", "b"],
        "encoding_format": "base64",
        "dimensions": 2,
    },
}

ODD: tuple[object, ...] = (
    None,
    True,
    -1,
    0,
    2**31,
    2**63,
    2**64,
    -(10**30),
    1e308,
    -0.5,
    "",
    "x",
    "\x00",
    "ünïcödé 🎈" * 50,
    [],
    {},
    [None],
    [[]],
    [1, "a"],
    {"": None},
    [{"type": "text"}],
    {"type": "function"},
)


Put = Callable[[object], None]


def places(value: object) -> list[Put]:
    """Every place inside the value, as a function that puts something else there."""
    found: list[Put] = []
    match value:
        case dict():
            found += [partial(value.__setitem__, key) for key in value]
            found += [place for inner in value.values() for place in places(inner)]
        case list():
            found += [partial(value.__setitem__, index) for index in range(len(value))]
            found += [place for inner in value for place in places(inner)]
        case _:
            pass
    return found


def odd_shape(dice: random.Random, body: dict[str, object]) -> bytes:
    """A good body with up to three values replaced."""
    changed = json.loads(json.dumps(body))
    for _ in range(dice.randint(1, 3)):
        dice.choice(places(changed))(copy.deepcopy(dice.choice(ODD)))
    return json.dumps(changed).encode()


def odd_bytes(dice: random.Random, body: dict[str, object]) -> bytes:
    """A good body with some of its bytes changed, cut or doubled."""
    raw = bytearray(json.dumps(body).encode())
    for _ in range(dice.randint(1, 6)):
        at = dice.randrange(len(raw))
        match dice.randrange(3):
            case 0:
                raw[at] = dice.randrange(256)
            case 1:
                del raw[at : at + dice.randint(1, 20)]
            case _:
                raw[at:at] = raw[at : at + dice.randint(1, 20)]
        raw = raw or bytearray(b"{")
    return bytes(raw)


def is_clear(answer: Answer) -> bool:
    return answer.status == 200 or (400 <= answer.status < 500 and bool(answer.error["message"]))


async def test_a_thousand_mutated_bodies_are_each_answered(gateway: ScriptedGateway, url: str) -> None:
    gateway.script = either
    dice = random.Random(2)
    refusals = 0
    async with connected(url) as connection:
        for number in range(1000):
            path, good = dice.choice(list(BODIES.items()))
            raw = (odd_shape if number % 2 else odd_bytes)(dice, good)
            await connection.send("POST", path, raw)
            answer = await connection.answer()
            assert is_clear(answer), (answer, raw)
            refusals += answer.status != 200
    assert 100 < refusals < 1000
    for path, good in BODIES.items():
        assert (await ask(url, "POST", path, good)).status == 200


async def test_random_bytes_are_each_answered(url: str) -> None:
    dice = random.Random(3)
    for _ in range(50):
        answer = await ask(url, "POST", "/v1/chat/completions", dice.randbytes(dice.randrange(200)))
        assert answer.status == 400
        assert answer.error["code"] == "invalid_json"


async def engine_checks(order: Order, say: Say) -> None:
    """Refuses what only an engine can judge, as the real one does; answers the rest."""
    if any(token >= 32_000 for token in order.sampling.logit_bias):
        say(refused(RefusalCode.INVALID, "not in the vocabulary", param="logit_bias"))
    else:
        await hello(order, say)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"prompt": ["a", "b"]}, 200),
        ({"prompt": ""}, 200),
        ({"prompt": [1, 2, 3]}, 200),
        ({"stop": [1, 2]}, 400),
        ({"stop": "ne riv"}, 200),
        ({"top_k": 10_000_000}, 200),
        ({"logit_bias": {"99999999": 1}}, 400),
        ({"seed": -1}, 200),
        ({"seed": 2**64}, 400),
        ({"temperature": None}, 200),
    ],
)
async def test_what_ends_mlx_lm_server_does_not_end_this_one(
    gateway: ScriptedGateway, url: str, fields: dict[str, object], status: int
) -> None:
    gateway.script = engine_checks
    answer = await ask(url, "POST", "/v1/completions", {"model": "m", "prompt": "a"} | fields)
    assert answer.status == status
    assert status == 200 or answer.error["param"]
    assert (await ask(url, "POST", "/v1/completions", {"model": "m", "prompt": "a"})).status == 200
    assert (await ask(url, "GET", "/health")).status == 200


async def test_garbage_instead_of_http_ends_only_its_own_connection(url: str) -> None:
    async with connected(url) as connection:
        connection.writer.write(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
        assert (await connection.reader.read()).startswith(b"HTTP/1.")
    assert (await ask(url, "GET", "/health")).status == 200
