"""Every error has its status, OpenAI's envelope and the right advice on trying again."""

import asyncio

import pytest
from openai import APIError, AsyncOpenAI, InternalServerError, NotFoundError, RateLimitError

from api.settings import ApiSettings
from bus.messages.generation import RefusalCode
from bus.messages.request import Chunk, Order, Waiting
from tests.api.raw import ask, connected
from tests.api.scripted import (
    Say,
    ScriptedGateway,
    admitted,
    finish,
    hello,
    playing,
    refused,
    serving,
)

CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("code", "status", "kind", "param", "retry"),
    [
        (RefusalCode.INVALID, 400, "invalid_request_error", None, None),
        (RefusalCode.CONTEXT_LENGTH, 400, "invalid_request_error", "messages", None),
        (RefusalCode.MODEL_NOT_FOUND, 404, "invalid_request_error", "model", None),
        (RefusalCode.DOES_NOT_FIT, 503, "server_error", None, "false"),
        (RefusalCode.OVERLOADED, 429, "rate_limit_exceeded", None, None),
        (RefusalCode.TIMEOUT, 504, "server_error", None, None),
        (RefusalCode.ENGINE_LOST, 503, "server_error", None, None),
        (RefusalCode.ENGINE_FAILED, 500, "server_error", None, "false"),
        (RefusalCode.CANCELLED, 499, "request_cancelled", None, None),
        (RefusalCode.INSTANCE_NOT_FOUND, 404, "invalid_request_error", "id", None),
        (RefusalCode.NOT_COORDINATOR, 503, "server_error", None, None),
    ],
)
async def test_a_refusal_before_the_first_byte_has_its_own_status(
    gateway: ScriptedGateway,
    url: str,
    stream: bool,
    code: RefusalCode,
    status: int,
    kind: str,
    param: str | None,
    retry: str | None,
) -> None:
    gateway.script = playing(Waiting("loading"), refused(code, "Do this."))
    answer = await ask(url, "POST", "/v1/chat/completions", CHAT | {"stream": stream})
    assert answer.status == status
    assert answer.error == {"message": "Do this.", "type": kind, "param": param, "code": code.value}
    assert answer.headers.get("x-should-retry") == retry
    assert answer.headers["x-request-id"].startswith("chatcmpl-")
    passing = (RefusalCode.OVERLOADED, RefusalCode.ENGINE_LOST, RefusalCode.NOT_COORDINATOR)
    assert ("retry-after" in answer.headers) == (code in passing)


async def test_overload_says_when_to_come_back(gateway: ScriptedGateway, url: str) -> None:
    gateway.script = playing(refused(RefusalCode.OVERLOADED, retry_after_s=2.25))
    answer = await ask(url, "POST", "/v1/chat/completions", CHAT)
    assert (answer.headers["retry-after"], answer.headers["retry-after-ms"]) == ("3", "2250")


async def test_the_official_client_raises_its_own_errors(
    client: AsyncOpenAI, gateway: ScriptedGateway
) -> None:
    gateway.script = playing(refused(RefusalCode.MODEL_NOT_FOUND))
    with pytest.raises(NotFoundError) as missing:
        await client.completions.create(model="m", prompt="a")
    assert missing.value.code == "model_not_found"
    gateway.script = playing(refused(RefusalCode.OVERLOADED))
    with pytest.raises(RateLimitError):
        await client.completions.create(model="m", prompt="a", stream=True)


async def test_the_official_client_tries_again_after_an_overload(
    gateway: ScriptedGateway, client: AsyncOpenAI
) -> None:
    async def once(order: Order, say: Say) -> None:
        gateway.script = hello
        say(refused(RefusalCode.OVERLOADED, retry_after_s=0.01))

    gateway.script = once
    answer = await client.with_options(max_retries=1).completions.create(model="m", prompt="a")
    assert answer.choices[0].text == "Hello 0"
    assert len(gateway.generations) == 2


async def test_a_deterministic_failure_is_not_tried_again(
    gateway: ScriptedGateway, client: AsyncOpenAI
) -> None:
    gateway.script = playing(refused(RefusalCode.DOES_NOT_FIT))
    with pytest.raises(InternalServerError):
        await client.with_options(max_retries=2).completions.create(model="m", prompt="a")
    assert len(gateway.generations) == 1


async def test_an_error_after_the_headers_is_in_the_stream(
    client: AsyncOpenAI, gateway: ScriptedGateway
) -> None:
    async def script(order: Order, say: Say) -> None:
        say(admitted(order))
        say(Chunk(0, "Hel", generated=1))
        say(refused(RefusalCode.ENGINE_LOST, "The engine is gone."))

    gateway.script = script
    stream = await client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "Hi"}], stream=True
    )
    assert (await anext(stream)).choices[0].delta.role == "assistant"
    assert (await anext(stream)).choices[0].delta.content == "Hel"
    with pytest.raises(APIError, match="The engine is gone") as caught:
        await anext(stream)
    assert caught.value.code == "engine_lost"


async def test_after_an_error_in_the_stream_comes_its_end_and_the_connections(
    gateway: ScriptedGateway, url: str
) -> None:
    async def script(order: Order, say: Say) -> None:
        say(admitted(order))
        say(refused(RefusalCode.ENGINE_LOST))

    gateway.script = script
    async with connected(url) as connection:
        body = b'{"model":"m","prompt":"a","stream":true}'
        await connection.send("POST", "/v1/completions", body)
        answer = await connection.answer()
        assert answer.status == 200
        assert b"[DONE]" not in answer.body
        assert await connection.reader.read() == b""


@pytest.mark.parametrize("stream", [False, True])
async def test_a_bug_in_one_request_leaves_the_next_unharmed(
    gateway: ScriptedGateway, url: str, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def bug(_order: Order, _say: Say) -> None:
        raise ZeroDivisionError

    async def late_bug(order: Order, say: Say) -> None:
        say(admitted(order))
        raise ZeroDivisionError

    for script, status in ((bug, 500), (late_bug, 200 if stream else 500)):
        gateway.script = script
        answer = await ask(url, "POST", "/v1/chat/completions", CHAT | {"stream": stream})
        assert answer.status == status
        assert b'"code":"internal"' in answer.body
        assert "ZeroDivisionError" in caplog.text
    gateway.script = hello
    assert (await ask(url, "POST", "/v1/chat/completions", CHAT)).status == 200


async def test_events_that_just_end_are_an_error(gateway: ScriptedGateway, url: str) -> None:
    async def script(order: Order, say: Say) -> None:
        say(admitted(order))
        say(Chunk(0, "x", generated=1, finish=finish(1)))
        raise RuntimeError("no Completed")

    gateway.script = script
    answer = await ask(url, "POST", "/v1/completions", {"model": "m", "prompt": "a"})
    assert answer.status == 500


@pytest.mark.parametrize(
    ("body", "status", "param", "code"),
    [
        (b"", 400, None, "invalid_json"),
        (b"\xff\xfe", 400, None, "invalid_json"),
        (b'{"model":"m","junk":"\xff"}', 400, None, "invalid_json"),
        (b"{", 400, None, "invalid_json"),
        (b"[]", 400, None, "invalid_value"),
        (b'"x"', 400, None, "invalid_value"),
        (b"{}", 400, "model", "missing_required_parameter"),
        (b'{"model":"m"}', 400, "messages", "missing_required_parameter"),
        (b'{"model":"","messages":[]}', 400, "model", "invalid_value"),
        (b'{"model":"m","messages":[]}', 400, "messages", "invalid_value"),
        (b'{"model":"m","messages":[{}]}', 400, "messages[0].role", "missing_required_parameter"),
        (b'{"model":"m","messages":[{"role":"u","content":""}]}', 400, "messages[0].role", "invalid_value"),
        (
            b'{"model":"m","messages":[{"role":"user"}]}',
            400,
            "messages[0].content",
            "missing_required_parameter",
        ),
        (
            b'{"model":"m","messages":[{"role":"user","content":5}]}',
            400,
            "messages[0].content",
            "invalid_value",
        ),
        (b'{"model":"m","messages":5}', 400, "messages", "invalid_value"),
        pytest.param(
            b'{"model":"m","messages":[' + b",".join([b'{"role":"user","content":""}'] * 8193) + b"]}",
            400,
            "messages",
            "invalid_value",
            id="too many messages",
        ),
        pytest.param(
            b'{"model":"m","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            400,
            None,
            "invalid_json",
            id="too deep",
        ),
    ],
)
async def test_a_broken_body_is_named(
    gateway: ScriptedGateway, url: str, body: bytes, status: int, param: str | None, code: str
) -> None:
    answer = await ask(url, "POST", "/v1/chat/completions", body)
    assert answer.status == status
    assert (answer.error["param"], answer.error["code"]) == (param, code)
    assert gateway.generations == []


async def test_too_large_a_body_is_413(gateway: ScriptedGateway) -> None:
    async with serving(gateway, ApiSettings(max_body_bytes=1000)) as url:
        answer = await ask(url, "POST", "/v1/completions", {"model": "m", "prompt": "a" * 1000})
        assert answer.status == 413
        assert answer.error["code"] == "body_too_large"


async def test_a_body_that_never_comes_is_408(gateway: ScriptedGateway) -> None:
    async with serving(gateway, ApiSettings(body_s=0.01)) as url, connected(url) as connection:
        connection.writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        assert (await connection.answer()).status == 408


async def test_a_body_whose_compression_is_broken_is_400(url: str) -> None:
    answer = await ask(url, "POST", "/v1/completions", b"not gzip", "Content-Encoding: gzip\r\n")
    assert answer.status == 400


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("POST", "/v1/nothing", 404),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("GET", "/v1/models/unknown", 404),
        ("POST", "/v1/cancel/unknown", 404),
    ],
)
async def test_unknown_paths_and_methods_are_answered_in_json(
    url: str, method: str, path: str, status: int
) -> None:
    answer = await ask(url, method, path)
    assert answer.status == status
    assert answer.error["type"] == "invalid_request_error"
    assert "retry-after" in answer.headers["access-control-expose-headers"]
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["x-request-id"]
    if status == 405:
        assert answer.headers["allow"]


async def test_a_deadline_is_a_time_out(gateway: ScriptedGateway, url: str) -> None:
    gateway.script = playing(refused(RefusalCode.TIMEOUT))
    async with asyncio.timeout(10):
        answer = await ask(url, "POST", "/v1/completions", {"model": "m", "prompt": "a", "timeout": 0.5})
    assert answer.status == 504
    assert gateway.order.timeout_s == 0.5
