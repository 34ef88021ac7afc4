"""A server that speaks the page's part of the API and does what a test tells it to, when it does."""

import asyncio
import json
import mimetypes
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import msgspec
from aiohttp import web

from bus.messages.base import NodeId
from bus.messages.facts import (
    CoordinatorFact,
    DeclaredFact,
    Fact,
    InstanceFact,
    ModelFact,
    NodeFact,
    RankFact,
    RequestFact,
)
from bus.messages.placement import Previews
from tests.page.clusters import HERE, key_of

PAGE = Path(str(files("ui_static")))


@dataclass
class Answer:
    """One chat completion under way: the test writes it."""

    body: dict[str, object]
    authorization: str = ""
    """The header of that name."""
    pieces: asyncio.Queue[bytes | web.Response | None] = field(default_factory=asyncio.Queue)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """The client went away."""

    @property
    def said(self) -> object:
        """The conversation that the page sent."""
        return self.body["messages"]

    def refuse(self, status: int, message: str) -> None:
        """An HTTP error instead of a stream."""
        self.pieces.put_nowait(web.json_response({"error": {"message": message}}, status=status))

    def comment(self, text: str) -> None:
        """Why there is nothing to show yet."""
        self.raw(f": {text}\n\n")

    def delta(self, **delta: object) -> None:
        """More of the answer."""
        self._data({"id": "chatcmpl-1", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})

    def finish(self, reason: str = "stop", tokens: int = 12) -> None:
        """The answer's end, with its usage."""
        self._data({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        self._data({"choices": [], "usage": {"prompt_tokens": 20, "completion_tokens": tokens}})
        self.raw("data: [DONE]\n\n")
        self.pieces.put_nowait(None)

    def fail(self, message: str) -> None:
        """An error in the middle of the stream."""
        self._data({"error": {"message": message, "type": "server_error"}})
        self.pieces.put_nowait(None)

    def break_off(self) -> None:
        """The stream ends before the answer does."""
        self.pieces.put_nowait(None)

    def raw(self, text: str) -> None:
        """Bytes as they are."""
        self.pieces.put_nowait(text.encode())

    def _data(self, value: object) -> None:
        self.raw(f"data: {json.dumps(value)}\n\n")


class StandIn:
    """Facts as a test sets them, and chats and cancels as they come in."""

    def __init__(self) -> None:
        self.facts: dict[str, Fact] = {}
        self.cancelled: asyncio.Queue[str] = asyncio.Queue()
        self.cancel_status = 200
        self.chats: asyncio.Queue[Answer] = asyncio.Queue()
        self.previews = Previews(())
        self.previewed: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        """The queries of the page."""
        self.placed: asyncio.Queue[dict[str, object]] = asyncio.Queue()
        self.withdrawn: asyncio.Queue[str] = asyncio.Queue()
        self.no = ""
        """Why nothing is placed, previewed or withdrawn now; empty: it is."""
        self.url = ""
        self.refusing = False
        """The event stream is answered with 503."""
        self._answers: list[Answer] = []
        self._feeds: set[asyncio.Queue[bytes | None]] = set()
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen on a free port of this machine."""
        app = web.Application()
        app.add_routes(
            (
                web.get("/", self._index),
                web.get("/ui/{file}", self._file),
                web.get("/v1/cluster/events", self._events),
                web.post("/v1/chat/completions", self._chat),
                web.post("/v1/cancel/{id}", self._cancel),
                web.get("/v1/instances/previews", self._preview),
                web.post("/v1/instances", self._place),
                web.delete("/v1/instances/{id}", self._withdraw),
            )
        )
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """End all streams and connections."""
        self.drop()
        for answer in self._answers:
            answer.break_off()
        if self._runner is not None:
            await self._runner.cleanup()

    def publish(self, *facts: Fact) -> None:
        """Facts change."""
        for fact in facts:
            self.facts[key_of(fact)] = fact
            self.send_change(key_of(fact), key_of(fact).split("/")[0], shown(fact))

    def withdraw(self, fact: Fact) -> None:
        """A fact is no more."""
        key = key_of(fact)
        del self.facts[key]
        self.send_change(key, key.split("/")[0], None)

    def drop(self) -> None:
        """Every event stream ends."""
        for feed in self._feeds:
            feed.put_nowait(None)

    def send_change(self, key: str, kind: str, value: object) -> None:
        """Tell every page of a change, of whatever kind."""
        for feed in self._feeds:
            feed.put_nowait(_event("change", {"key": key, "kind": kind, "value": value}))

    async def _index(self, _request: web.Request) -> web.Response:
        return _page_file("index.html")

    async def _file(self, request: web.Request) -> web.Response:
        return _page_file(request.match_info["file"])

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if self.refusing:
            return web.Response(status=503)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        feed: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._feeds.add(feed)
        try:
            await response.write(_event("snapshot", self._snapshot()))
            while (data := await feed.get()) is not None:
                await response.write(data)
        finally:
            self._feeds.discard(feed)
        return response

    def _snapshot(self) -> dict[str, object]:
        def of(kind: type[Fact]) -> list[object]:
            return [shown(fact) for fact in self.facts.values() if isinstance(fact, kind)]

        return {
            "node": HERE,
            "version": "0.1.0",
            "nodes": of(NodeFact),
            "models": of(ModelFact),
            "instances": of(InstanceFact),
            "requests": of(RequestFact),
            "ranks": of(RankFact),
            "declared": of(DeclaredFact),
            "coordinators": of(CoordinatorFact),
            "bus": {"facts_endpoint": "tcp://127.0.0.1:1", "counts": {}},
        }

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        answer = Answer(await request.json(), request.headers.get("Authorization", ""))
        self._answers.append(answer)
        self.chats.put_nowait(answer)
        first = await answer.pieces.get()
        if isinstance(first, web.Response):
            return first
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        piece: bytes | web.Response | None = first
        try:
            while isinstance(piece, bytes):
                await response.write(piece)
                piece = await answer.pieces.get()
        except (asyncio.CancelledError, ConnectionError):
            answer.left.set()
            raise
        return response

    async def _cancel(self, request: web.Request) -> web.Response:
        self.cancelled.put_nowait(request.match_info["id"])
        return web.json_response({}, status=self.cancel_status)

    async def _preview(self, request: web.Request) -> web.Response:
        self.previewed.put_nowait(dict(request.query))
        names = {fact.id: fact.name for fact in self.facts.values() if isinstance(fact, NodeFact)}
        choices = [with_names(plain(choice), names) for choice in self.previews.choices]
        return self._said({"choices": choices, "ruled_out": plain(self.previews.ruled_out)})

    async def _place(self, request: web.Request) -> web.Response:
        self.placed.put_nowait(await request.json())
        return self._said({"object": "list", "data": []})

    async def _withdraw(self, request: web.Request) -> web.Response:
        self.withdrawn.put_nowait(request.match_info["id"])
        return self._said({"deleted": True})

    def _said(self, body: object) -> web.Response:
        if self.no:
            return web.json_response({"error": {"message": self.no}}, status=503)
        return web.json_response(body)


def _page_file(name: str) -> web.Response:
    """Read on the loop: a FileResponse would start threads that outlive the test."""
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return web.Response(body=(PAGE / name).read_bytes(), content_type=kind)


def _event(name: str, value: object) -> bytes:
    return f"event: {name}\ndata: {json.dumps(value)}\n\n".encode()


def with_names(choice: object, names: dict[NodeId, str]) -> object:
    """A choice as the API shows it: the names of its nodes beside their ids."""
    match choice:
        case {"stages": list(stages), **rest}:
            return {
                **rest,
                "stages": [{**stage, "names": [names[n] for n in stage["nodes"]]} for stage in stages],
            }
        case _:
            raise AssertionError(f"no choice: {choice}")


def shown(fact: Fact) -> object:
    """A fact as the API shows it: of a declaration, also who says so."""
    match fact, plain(fact):
        case DeclaredFact(), dict(fields):
            return {"said_by": HERE, **fields}
        case _, value:
            return value


def plain(value: object) -> object:
    """A fact as the API's JSON shows it: with defaults, without its wire tag."""
    match value:
        case msgspec.Struct():
            return {name: plain(field) for name, field in msgspec.structs.asdict(value).items()}
        case tuple():
            return [plain(item) for item in value]
        case _:
            return value
