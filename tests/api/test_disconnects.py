"""A client that leaves is noticed at once, whatever its request is doing, and that is one cancel."""

import asyncio
from collections.abc import Callable

import pytest

from api.settings import ApiSettings
from bus.messages.request import Admitted, Chunk, Order, Waiting
from tests.api.raw import Connection, ask, connected
from tests.api.scripted import INSTANCE, Say, Script, ScriptedGateway, ScriptedGeneration, hello, serving


async def queued(_order: Order, say: Say) -> None:
    say(Waiting("3 requests ahead"))
    await asyncio.Event().wait()


async def prefilling(_order: Order, say: Say) -> None:
    say(Admitted(INSTANCE, (7,)))
    say(Waiting("prefill", 3, 7))
    await asyncio.Event().wait()


async def decoding(_order: Order, say: Say) -> None:
    say(Admitted(INSTANCE, (7,)))
    say(Chunk(0, "Hello", generated=1))
    await asyncio.Event().wait()


def close(connection: Connection) -> None:
    connection.writer.close()


def half_close(connection: Connection) -> None:
    connection.writer.write_eof()


def reset(connection: Connection) -> None:
    connection.reset()


async def left(gateway: ScriptedGateway) -> ScriptedGeneration:
    """The generation that is open, once it was left."""
    generation = await gateway.opened.get()
    async with asyncio.timeout(10):
        await generation.left.wait()
    return generation


@pytest.mark.parametrize("leave", [close, half_close, reset])
@pytest.mark.parametrize("script", [queued, prefilling, decoding])
@pytest.mark.parametrize("stream", ["true", "false"])
@pytest.mark.parametrize("path", ["chat/completions", "completions"])
async def test_leaving_is_one_cancel(
    gateway: ScriptedGateway,
    url: str,
    path: str,
    stream: str,
    script: Script,
    leave: Callable[[Connection], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    gateway.script = script
    prompt = '"messages":[{"role":"user","content":"Hi"}]' if "chat" in path else '"prompt":"a"'
    async with connected(url) as connection:
        body = f'{{"model":"m","stream":{stream},{prompt}}}'
        await connection.send("POST", f"/v1/{path}", body.encode())
        if stream == "true" and script is not queued:
            await connection.head()
        leave(connection)
        generation = await left(gateway)
    assert generation.cancels == ["left"]
    assert "Traceback" not in caplog.text
    gateway.script = hello
    assert (await ask(url, "POST", "/v1/completions", {"model": "m", "prompt": "a"})).status == 200


async def test_a_client_that_leaves_while_text_pours_out_is_one_cancel(
    gateway: ScriptedGateway, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def pour(order: Order, say: Say) -> None:
        say(Admitted(INSTANCE, (7,)))
        number = 0
        while True:
            number += 1
            say(Chunk(0, "word ", generated=number))
            await asyncio.sleep(0)

    gateway.script = pour
    async with connected(url) as connection:
        await connection.send("POST", "/v1/completions", b'{"model":"m","prompt":"a","stream":true}')
        await connection.head()
        connection.reset()
        generation = await left(gateway)
    assert generation.cancels == ["left"]
    assert "Traceback" not in caplog.text


async def test_one_that_leaves_takes_no_other_with_it(gateway: ScriptedGateway, url: str) -> None:
    gateway.script = decoding
    body = b'{"model":"m","prompt":"a","stream":true}'
    async with connected(url) as stays, connected(url) as leaves:
        await stays.send("POST", "/v1/completions", body)
        await stays.head()
        staying = await gateway.opened.get()
        await leaves.send("POST", "/v1/completions", body)
        await leaves.head()
        leaves.reset()
        await left(gateway)
        assert staying.cancels == []
        assert not staying.left.is_set()


async def test_cancel_by_id_ends_the_stream_with_an_error(gateway: ScriptedGateway, url: str) -> None:
    gateway.script = decoding
    async with connected(url) as connection:
        await connection.send("POST", "/v1/completions", b'{"model":"m","prompt":"a","stream":true}')
        _, headers = await connection.head()
        answer = await ask(url, "POST", f"/v1/cancel/{headers['x-request-id']}")
        assert answer.status == 200
        assert answer.json()["cancelled"] is True
        rest = b"".join([piece async for piece in connection.chunks()])
    assert b'"code":"cancelled"' in rest
    assert b"[DONE]" not in rest
    generation = await left(gateway)
    assert len(generation.cancels) == 1


async def test_cancel_by_id_answers_a_whole_request_with_499(gateway: ScriptedGateway, url: str) -> None:
    gateway.script = queued
    waiting = asyncio.create_task(ask(url, "POST", "/v1/completions", {"model": "m", "prompt": "a"}))
    generation = await gateway.opened.get()
    assert (await ask(url, "POST", f"/v1/cancel/{generation.request}")).status == 200
    answer = await waiting
    assert answer.status == 499
    assert answer.error["code"] == "cancelled"
    assert (await ask(url, "POST", f"/v1/cancel/{generation.request}")).status == 404


async def test_a_client_that_reads_nothing_gets_merged_chunks_when_it_reads_again(
    gateway: ScriptedGateway, url: str
) -> None:
    words = [f"{number} " for number in range(20_000)]
    written = asyncio.Event()

    async def pour(order: Order, say: Say) -> None:
        say(Admitted(INSTANCE, (7,)))
        for number, word in enumerate(words):
            say(Chunk(0, word, generated=number + 1))
            await asyncio.sleep(0)
        written.set()
        await asyncio.Event().wait()

    gateway.script = pour
    async with connected(url, receive_buffer=4096) as connection:
        await connection.send("POST", "/v1/completions", b'{"model":"m","prompt":"a","stream":true}')
        async with asyncio.timeout(30):
            await written.wait()
            await connection.head()
            text, frames = "", 0
            async for piece in connection.chunks():
                for event in piece.split(b"\n\n"):
                    if event.startswith(b"data: "):
                        frames += 1
                        text += event.partition(b'"text":"')[2].partition(b'"')[0].decode()
                if text.endswith(words[-1]):
                    break
    assert text == "".join(words)
    assert frames < len(words)


async def test_a_client_that_never_reads_again_is_given_up(gateway: ScriptedGateway) -> None:
    async def pour(order: Order, say: Say) -> None:
        say(Admitted(INSTANCE, (7,)))
        for number in range(10_000):
            say(Chunk(0, "x" * 1000, generated=number + 1))
            await asyncio.sleep(0)
        await asyncio.Event().wait()

    gateway.script = pour
    async with serving(gateway, ApiSettings(stall_s=0.2)) as url, connected(url, 4096) as connection:
        await connection.send("POST", "/v1/completions", b'{"model":"m","prompt":"a","stream":true}')
        generation = await left(gateway)
    assert generation.cancels == ["left"]
