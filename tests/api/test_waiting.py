"""A stream that waits says why, keeps its connection alive, and holds its headers for a while."""

import asyncio
import re

import pytest

from api.settings import ApiSettings
from api.stream import waiting_comment
from bus.messages.generation import RefusalCode
from bus.messages.request import Chunk, Order, Waiting
from tests.api.raw import connected
from tests.api.scripted import Say, ScriptedGateway, admitted, completed, finish, playing, refused, serving

STREAM = b'{"model":"m","prompt":"a","stream":true}'
IMPATIENT = ApiSettings(hold_s=0.02, keep_alive_s=0.02)


async def test_headers_go_out_when_the_hold_is_over_and_comments_say_why(gateway: ScriptedGateway) -> None:
    gateway.script = playing(Waiting("the model is loading"))
    async with serving(gateway, IMPATIENT) as url, connected(url) as connection:
        await connection.send("POST", "/v1/completions", STREAM)
        status, headers = await connection.head()
        assert status == 200
        assert headers["content-type"].startswith("text/event-stream")
        assert headers["cache-control"] == "no-cache"
        pieces = connection.chunks()
        assert await anext(pieces) == b": the model is loading\n\n"
        assert await anext(pieces) == b": the model is loading\n\n"


async def test_prefill_is_told_with_its_progress(gateway: ScriptedGateway, url: str) -> None:
    async def script(order: Order, say: Say) -> None:
        say(admitted(order))
        say(Waiting("reading\nthe prompt", 512, 4000))
        await asyncio.Event().wait()

    gateway.script = script
    async with connected(url) as connection:
        await connection.send("POST", "/v1/completions", STREAM)
        await connection.head()
        seen = b""
        async for piece in connection.chunks():
            seen += piece
            if b"512" in seen:
                break
    assert seen.endswith(b": reading the prompt 512/4000\n\n")


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (
            Waiting("computing the prompt", 512, 4096, eta_s=2.95),
            "computing the prompt 512/4096, [1-3] s left",
        ),
        (Waiting("waiting for its turn", place=3), "waiting for its turn: 3 before it"),
        (Waiting("waiting for memory", place=0), "waiting for memory: it is the next"),
    ],
)
async def test_a_comment_says_how_long_it_takes_and_is_said_again(
    gateway: ScriptedGateway, event: Waiting, words: str
) -> None:
    gateway.script = playing(event)
    async with serving(gateway, IMPATIENT) as url, connected(url) as connection:
        await connection.send("POST", "/v1/completions", STREAM)
        await connection.head()
        pieces = connection.chunks()
        for piece in [await anext(pieces), await anext(pieces)]:
            assert re.fullmatch(f": {words}\n\n", piece.decode())


def test_the_time_that_is_left_shrinks_and_is_not_made_up() -> None:
    event = Waiting("computing the prompt", 512, 4096, eta_s=8.0)
    assert waiting_comment(event, 5.5) == b": computing the prompt 512/4096, 3 s left\n\n"
    assert waiting_comment(event, 8.0) == b": computing the prompt 512/4096\n\n"


async def test_what_the_client_does_not_want_to_see_keeps_its_connection_alive(
    gateway: ScriptedGateway,
) -> None:
    async def script(order: Order, say: Say) -> None:
        say(admitted(order))
        for tokens in range(1, 1000):
            say(Chunk(0, reasoning="hm", generated=tokens))
            await asyncio.sleep(0.001)

    gateway.script = script
    body = b'{"model":"m","messages":[{"role":"user","content":"a"}],"stream":true,"include_reasoning":false}'
    async with serving(gateway, IMPATIENT) as url, connected(url) as connection:
        await connection.send("POST", "/v1/chat/completions", body)
        await connection.head()
        pieces = connection.chunks()
        assert b'"role":"assistant"' in await anext(pieces)
        assert [await anext(pieces), await anext(pieces)] == [b": generating\n\n"] * 2


async def test_a_refusal_after_the_hold_is_in_band(gateway: ScriptedGateway) -> None:
    refuse = asyncio.Event()

    async def script(order: Order, say: Say) -> None:
        await refuse.wait()
        say(refused(RefusalCode.DOES_NOT_FIT, "Too large."))

    gateway.script = script
    async with serving(gateway, IMPATIENT) as url, connected(url) as connection:
        await connection.send("POST", "/v1/completions", STREAM)
        await connection.head()
        refuse.set()
        body = b"".join([piece async for piece in connection.chunks()])
    assert b'data: {"error":{"message":"Too large."' in body


async def test_a_decode_that_pauses_is_kept_alive(gateway: ScriptedGateway) -> None:
    go_on = asyncio.Event()

    async def script(order: Order, say: Say) -> None:
        say(admitted(order))
        say(Chunk(0, "a", generated=1))
        await go_on.wait()
        say(Chunk(0, "b", generated=2, finish=finish(2)))
        say(completed(order))

    gateway.script = script
    async with serving(gateway, IMPATIENT) as url, connected(url) as connection:
        await connection.send("POST", "/v1/completions", STREAM)
        await connection.head()
        body = b""
        async for piece in connection.chunks():
            body += piece
            if b": generating\n\n" in body:
                go_on.set()
    assert body.endswith(b"data: [DONE]\n\n")
