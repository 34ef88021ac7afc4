"""`GET /v1/cluster`, its events, and `POST /v1/cancel/{id}`: the whole state as JSON, and the stop button."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import hdrs, web

from actors.gateway import Gateway
from api.errors import ApiError, Fault
from api.json import json_response, plain, written
from api.outbox import Outbox, OutboxClosed
from api.settings import ApiSettings
from api.stream import ClientGone, EventStream, comment
from bus.messages.base import RequestId
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

logger = logging.getLogger(__name__)

Change = tuple[str, Fact | None]


class ClusterRoutes:
    """The handlers."""

    def __init__(
        self, gateway: Gateway, settings: ApiSettings, cancel: Callable[[RequestId, str], bool]
    ) -> None:
        """`cancel`: ends a request for that reason; False: there is none of that id."""
        self._gateway = gateway
        self._cancel = cancel
        self._settings = settings
        self._feeds: set[Outbox[Change]] = set()

    def stop(self) -> None:
        """End all event streams."""
        for feed in tuple(self._feeds):
            feed.close()

    async def state(self, _request: web.Request) -> web.Response:
        """Everything that is known."""
        return json_response(self._snapshot())

    async def events(self, request: web.Request) -> web.StreamResponse:
        """First a snapshot, then each change; a slow reader gets the latest value of each key."""
        stream = EventStream(request, self._settings.stall_s)
        if request.method == hdrs.METH_HEAD:
            return stream.response
        try:
            async with self._feed() as feed:
                # The feed's task has to be at its first change before the snapshot is taken: what
                # changes in between is then told twice rather than never.
                await asyncio.sleep(0)
                await stream.write(_event("snapshot", self._snapshot()))
                await self._follow(stream, feed)
        except OutboxClosed:
            stream.response.force_close()
        except ClientGone as gone:
            logger.debug("Event stream: %s", gone)
        return stream.response

    async def cancel(self, request: web.Request) -> web.Response:
        """Kill a request by its id. 404 when there is no such request under way."""
        name = RequestId(request.match_info["id"])
        if not self._cancel(name, "cancelled by POST /v1/cancel"):
            message = "There is no such request under way."
            raise ApiError(Fault(404, message, param="id", code="request_not_found"))
        return json_response({"id": name, "object": "request.cancelled", "cancelled": True})

    async def _follow(self, stream: EventStream, feed: Outbox[Change]) -> None:
        while True:
            changes = await feed.take(self._settings.keep_alive_s)
            events = [_event("change", _change(key, fact)) for key, fact in changes]
            await stream.write(b"".join(events) or comment("nothing changed"))

    @asynccontextmanager
    async def _feed(self) -> AsyncIterator[Outbox[Change]]:
        feed = Outbox[Change](key=lambda change: change[0], merge=lambda _earlier, later: later)
        task = asyncio.create_task(self._fill(feed))
        self._feeds.add(feed)
        try:
            yield feed
        finally:
            self._feeds.discard(feed)
            task.cancel()
            await asyncio.wait((task,))

    async def _fill(self, feed: Outbox[Change]) -> None:
        try:
            async for change in self._gateway.view.changes():
                feed.put(change)
        except Exception as error:
            logger.exception("Changes broke off")
            feed.close(error)
        else:
            feed.close()

    def _snapshot(self) -> dict[str, object]:
        facts = self._gateway.view.facts()
        return {
            "node": self._gateway.node,
            "version": self._settings.version,
            "nodes": _of(NodeFact, facts),
            "models": _of(ModelFact, facts),
            "instances": _of(InstanceFact, facts),
            "ranks": _of(RankFact, facts),
            "declared": _of(DeclaredFact, facts),
            "coordinators": _of(CoordinatorFact, facts),
            "requests": _of(RequestFact, facts),
            "bus": {
                "facts_endpoint": self._settings.facts_endpoint,
                "counts": dict(self._settings.bus_counts()),
            },
        }


def _of(kind: type[Fact], facts: dict[str, Fact]) -> list[object]:
    return [_shown(key, fact) for key, fact in sorted(facts.items()) if isinstance(fact, kind)]


def _shown(key: str, fact: Fact) -> object:
    """The fact; a declaration, which several nodes may repeat, with who says so.

    Not how kept conversations begin: that is for nodes that choose an instance.
    """
    match fact, plain(fact):
        case InstanceFact(), dict(fields):
            return {name: value for name, value in fields.items() if name != "trails"}
        case DeclaredFact(), dict(fields):
            return {"said_by": key.split("/")[1], **fields}
        case _, value:
            return value


def _change(key: str, fact: Fact | None) -> dict[str, object]:
    value = _shown(key, fact) if fact is not None else None
    return {"key": key, "kind": key.partition("/")[0], "value": value}


def _event(name: str, value: object) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + written(value) + b"\n\n"
