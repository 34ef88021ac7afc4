"""The cluster's state, whole and as it changes."""

import asyncio
import json
from collections.abc import AsyncIterator

import msgspec

from api.settings import ApiSettings
from bus.messages.facts import CoordinatorFact
from bus.messages.placement import Term
from tests.api.raw import Connection, ask, connected
from tests.api.scripted import (
    NODE,
    ScriptedGateway,
    declared_fact,
    instance,
    instance_fact,
    model_fact,
    node_fact,
    rank_fact,
    request_fact,
    serving,
)

TERM = Term(1, NODE)


async def events(connection: Connection) -> AsyncIterator[tuple[str, dict[str, object]]]:
    """Names and data, comments left out."""
    async for piece in connection.chunks():
        for event in piece.decode().split("\n\n"):
            if event.startswith("event: "):
                name, _, data = event.removeprefix("event: ").partition("\ndata: ")
                yield name, json.loads(data)


async def test_the_state_has_every_fact_with_its_defaults_and_without_its_tag(
    gateway: ScriptedGateway,
) -> None:
    gateway.facts.all.update(
        {
            "node/a": node_fact(),
            "model/a/m": model_fact("m"),
            "instance/a": instance_fact(),
            "request/1": request_fact("1"),
            "rank/a/1/0": rank_fact(0, NODE),
            "declared/a/a": declared_fact(instance(), TERM),
            "coordinator/a": CoordinatorFact(NODE, TERM, 1.0),
        }
    )
    settings = ApiSettings(version="1.2", facts_endpoint="tcp://x", bus_counts=lambda: {"malformed": 1})
    async with serving(gateway, settings) as url:
        state = (await ask(url, "GET", "/v1/cluster")).json()
    facts = {"nodes", "models", "instances", "ranks", "declared", "coordinators", "requests"}
    assert set(state) == {"node", "version", "bus"} | facts
    assert (state["node"], state["version"]) == (NODE, "1.2")
    assert state["bus"] == {"facts_endpoint": "tcp://x", "counts": {"malformed": 1}}
    nodes, instances = state["nodes"], state["instances"]
    assert isinstance(nodes, list)
    assert isinstance(instances, list)
    assert nodes[0]["memory"]["pressure"] == "unknown"
    assert (instances[0]["phase"], instances[0]["restarts"]) == ("ready", 0)
    assert "type" not in nodes[0]
    declared, ranks, coordinators = state["declared"], state["ranks"], state["coordinators"]
    assert isinstance(declared, list)
    assert isinstance(ranks, list)
    assert isinstance(coordinators, list)
    assert declared[0]["said_by"] == "a"
    assert declared[0]["instance"]["stages"][0]["nodes"] == [NODE]
    assert (ranks[0]["rank"], ranks[0]["phase"]) == (0, "ready")
    assert coordinators[0]["term"] == {"number": 1, "node": NODE}


async def test_how_kept_conversations_begin_is_nobodys_business(gateway: ScriptedGateway, url: str) -> None:
    fact = msgspec.structs.replace(instance_fact(), trails=(1, 2), prefix_bytes=9, kv_limit_bytes=99)
    gateway.facts.all["instance/a"] = fact
    state = (await ask(url, "GET", "/v1/cluster")).json()["instances"]
    assert isinstance(state, list)
    assert (state[0]["prefix_bytes"], state[0]["kv_limit_bytes"]) == (9, 99)
    assert "trails" not in state[0]


async def test_a_request_says_where_it_stands_in_the_line(gateway: ScriptedGateway, url: str) -> None:
    fact = msgspec.structs.replace(request_fact("1"), place=3, eta_s=1.5, cached_tokens=7, priority=-2)
    gateway.facts.all["request/1"] = fact
    state = (await ask(url, "GET", "/v1/cluster")).json()["requests"]
    assert isinstance(state, list)
    assert [state[0][name] for name in ("place", "eta_s", "cached_tokens", "priority")] == [3, 1.5, 7, -2]


async def test_events_begin_with_a_snapshot_and_go_on_with_each_change(
    gateway: ScriptedGateway, url: str
) -> None:
    async with connected(url) as connection:
        await connection.send("GET", "/v1/cluster/events")
        await connection.head()
        feed = events(connection)
        name, snapshot = await anext(feed)
        assert (name, snapshot["requests"]) == ("snapshot", [])
        gateway.facts.change("request/1", request_fact("1"))
        name, change = await anext(feed)
        assert name == "change"
        assert (change["key"], change["kind"]) == ("request/1", "request")
        assert isinstance(change["value"], dict)
        assert change["value"]["state"] == "decode"
        gateway.facts.change("request/1", None)
        assert await anext(feed) == ("change", {"key": "request/1", "kind": "request", "value": None})


async def test_nothing_that_changes_around_the_snapshot_is_missed(gateway: ScriptedGateway, url: str) -> None:
    async with connected(url) as connection:
        await connection.send("GET", "/v1/cluster/events")
        await gateway.facts.joined.wait()
        gateway.facts.change("request/1", request_fact("1"))
        await connection.head()
        feed = events(connection)
        _, snapshot = await anext(feed)
        if not snapshot["requests"]:
            assert (await anext(feed))[1]["key"] == "request/1"


async def test_an_idle_event_stream_is_kept_alive(gateway: ScriptedGateway) -> None:
    async with serving(gateway, ApiSettings(keep_alive_s=0.01)) as url, connected(url) as connection:
        await connection.send("GET", "/v1/cluster/events")
        await connection.head()
        pieces = connection.chunks()
        await anext(pieces)
        assert await anext(pieces) == b": nothing changed\n\n"


async def test_a_reader_that_leaves_is_forgotten(gateway: ScriptedGateway, url: str) -> None:
    async with connected(url) as connection:
        await connection.send("GET", "/v1/cluster/events")
        await connection.head()
        assert len(gateway.facts.readers) == 1
    async with asyncio.timeout(10):
        await gateway.facts.left.wait()
    assert gateway.facts.readers == set()
