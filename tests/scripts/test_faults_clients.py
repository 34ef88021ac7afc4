"""The fault runs' clients, against servers that answer in all the ways that a node can."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from scripts.fault_runs.asking import Asker, Errand, Question
from scripts.fault_runs.history import (
    Accepted,
    AnyEvent,
    Closed,
    Failed,
    Finished,
    Leaving,
    Piece,
    Refused,
    Submitted,
)
from scripts.fault_runs.recorder import Recorder
from scripts.fault_runs.requests import requests_of


def chunk(text: str = "", finish: str | None = None) -> bytes:
    return b"data: " + json.dumps({"choices": [{"text": text, "finish_reason": finish}]}).encode() + b"\n\n"


USAGE = b'data: {"choices": [], "usage": {"completion_tokens": 2}}\n\n'
DONE = b"data: [DONE]\n\n"
ERROR = b'data: {"error": {"code": "engine_lost"}}\n\n'

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Api:
    """Answers with these bytes, and ends a stream with an error when it is cancelled."""

    def __init__(self, parts: list[bytes], stays: bool = False) -> None:
        self._parts = parts
        self._stays = stays
        self._cancelled = asyncio.Event()
        self.bodies: list[dict[str, object]] = []

    async def complete(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.json())
        response = web.StreamResponse(headers={"x-request-id": "cmpl-1"})
        await response.prepare(request)
        for part in self._parts:
            await response.write(part)
        if self._stays:
            await self._cancelled.wait()
            await response.write(ERROR)
        return response

    async def cancel(self, _request: web.Request) -> web.StreamResponse:
        self._cancelled.set()
        return web.json_response({})


@asynccontextmanager
async def serving(complete: Handler, cancel: Handler | None = None) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/v1/completions", complete)
    app.router.add_post("/v1/cancel/cmpl-1", cancel or complete)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def asked(
    url: str, leaves: Leaving | None = None, after: int = 0, patience_s: float = 10.0
) -> list[AnyEvent]:
    recorder = Recorder()
    question = Question("Hi", 2, "one two")
    await Asker(Errand("r0", "n0", url, "m", question, leaves, after), recorder).run(patience_s)
    return recorder.events


async def test_a_stream_is_noted_from_its_opening_to_its_end() -> None:
    api = Api([b": waiting\n\n", chunk("one "), chunk("two"), chunk(finish="length"), USAGE, DONE])
    async with serving(api.complete) as url:
        events = await asked(url)

    kinds_seen = [type(event) for event in events]
    assert kinds_seen == [Submitted, Accepted, Piece, Piece, Finished, Closed]
    (request,) = requests_of(events)
    assert (request.text, request.finished, request.tokens, request.close_error) == ("one two", True, 2, "")
    assert api.bodies[0]["ignore_eos"] is True


async def test_an_error_in_a_stream_is_a_terminal_event() -> None:
    async with serving(Api([chunk("one "), ERROR]).complete) as url:
        (request,) = requests_of(await asked(url))
    assert (request.failed, request.terminals) == ('{"code": "engine_lost"}', 1)


async def test_a_stream_that_breaks_off_has_no_end() -> None:
    async with serving(Api([chunk("one ")]).complete) as url:
        (request,) = requests_of(await asked(url))
    assert (request.terminals, request.close_error) == (0, "the stream ended without [DONE]")


async def test_a_client_may_hang_up() -> None:
    async with serving(Api([chunk("one "), chunk("two")], stays=True).complete) as url:
        events = await asked(url, Leaving.DISCONNECT, after=1)
    (request,) = requests_of(events)
    assert request.left
    assert request.closed is not None
    assert not request.closed.overdue


async def test_a_client_may_cancel() -> None:
    api = Api([chunk("one ")], stays=True)
    async with serving(api.complete, api.cancel) as url:
        (request,) = requests_of(await asked(url, Leaving.CANCEL, after=1))
    assert request.gave_up is not None
    assert (request.gave_up.status, request.terminals, request.left) == (200, 1, False)


async def test_a_stream_that_never_ends_is_overdue() -> None:
    async with serving(Api([], stays=True).complete) as url:
        (request,) = requests_of(await asked(url, patience_s=0.2))
    assert request.closed is not None
    assert request.closed.overdue


async def test_an_error_instead_of_a_stream_is_a_refusal() -> None:
    async def refuse(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=503, text="busy")

    async with serving(refuse) as url:
        refused = [event for event in await asked(url) if isinstance(event, Refused)]
    assert [(event.status, event.error) for event in refused] == [(503, "busy")]


async def test_a_node_that_can_not_be_reached_refuses() -> None:
    async with serving(Api([]).complete) as url:
        pass
    refused = [event for event in await asked(url) if isinstance(event, Refused | Failed)]
    assert [event.status for event in refused if isinstance(event, Refused)] == [0]
