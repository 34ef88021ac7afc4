"""How the server starts, stops and treats every route alike."""

import asyncio

import pytest

from api.server import ListenError, Server
from api.settings import ApiSettings
from bus.messages.engine import Phase
from bus.messages.facts import RequestState
from bus.messages.request import Chunk, Order
from tests.api.raw import ask, connected
from tests.api.scripted import (
    INSTANCE,
    Say,
    ScriptedGateway,
    admitted,
    completed,
    instance_fact,
    node_fact,
    request_fact,
    serving,
    silence,
)

STREAM = b'{"model":"m","prompt":"a","stream":true}'


# -- start and stop ------------------------------------------------------------------------------


async def test_a_taken_port_is_a_clear_error(gateway: ScriptedGateway, url: str) -> None:
    port = int(url.rpartition(":")[2])
    with pytest.raises(ListenError, match=f"{port} is taken"):
        await Server(gateway, ApiSettings(port=port)).start()


async def test_a_foreign_address_is_a_clear_error(gateway: ScriptedGateway) -> None:
    with pytest.raises(ListenError, match="not an address of this machine"):
        await Server(gateway, ApiSettings(host="192.0.2.1", port=0)).start()


async def test_a_port_can_be_listened_on_again_at_once(gateway: ScriptedGateway) -> None:
    async with serving(gateway) as url:
        assert (await ask(url, "GET", "/health")).status == 200
    again = Server(gateway, ApiSettings(port=int(url.rpartition(":")[2])))
    assert await again.start() == url
    await again.stop()
    await again.stop()


async def test_stopping_tells_running_streams_why(gateway: ScriptedGateway) -> None:
    async def script(order: Order, say: Say) -> None:
        say(admitted(order))
        say(Chunk(0, "a", generated=1))
        await asyncio.Event().wait()

    gateway.script = script
    server = Server(gateway, ApiSettings(port=0))
    url = await server.start()
    async with connected(url) as streaming, connected(url) as whole, connected(url) as events:
        await streaming.send("POST", "/v1/completions", STREAM)
        await streaming.head()
        await whole.send("POST", "/v1/completions", b'{"model":"m","prompt":"a"}')
        await events.send("GET", "/v1/cluster/events")
        await events.head()
        for _ in range(2):
            await gateway.opened.get()
        async with asyncio.timeout(ApiSettings().shutdown_s):
            await server.stop()
        rest = b"".join([piece async for piece in streaming.chunks()])
        assert b'"code":"shutting_down"' in rest
        answer = await whole.answer()
        assert (answer.status, answer.error["code"]) == (503, "shutting_down")
        assert answer.headers["retry-after"]
        [piece async for piece in events.chunks()]
    assert [len(generation.cancels) for generation in gateway.generations] == [1, 1]


async def test_stopping_is_bounded_even_when_the_actors_say_nothing(gateway: ScriptedGateway) -> None:
    gateway.script = silence
    gateway.deaf = True
    server = Server(gateway, ApiSettings(port=0, shutdown_s=0.05))
    url = await server.start()
    async with connected(url) as connection:
        await connection.send("POST", "/v1/completions", STREAM)
        generation = await gateway.opened.get()
        async with asyncio.timeout(10):
            await server.stop()
            await generation.left.wait()


# -- manners -------------------------------------------------------------------------------------


async def test_a_connection_is_kept_for_the_next_request(url: str) -> None:
    async with connected(url) as connection:
        for stream in (b"true", b"false", b"true"):
            body = b'{"model":"m","prompt":"a","stream":' + stream + b"}"
            await connection.send("POST", "/v1/completions", body)
            assert (await connection.answer()).status == 200


async def test_a_body_may_come_in_chunks_and_without_a_content_type(url: str) -> None:
    async with connected(url) as connection:
        connection.writer.write(
            b"POST /v1/completions?beta=true HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            b'a\r\n{"model":"\r\n12\r\nm", "prompt": "a"}\r\n0\r\n\r\n'
        )
        assert (await connection.answer()).status == 200


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/metrics", "/v1/cluster", "/v1/cluster/events"])
async def test_head_wherever_get(url: str, path: str) -> None:
    answer = await ask(url, "HEAD", path)
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/not/there"])
async def test_a_preflight_is_answered_everywhere(url: str, path: str) -> None:
    answer = await ask(
        url, "OPTIONS", path, headers="Origin: http://x\r\nAccess-Control-Request-Headers: x-stainless-os\r\n"
    )
    assert answer.status == 204
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == "x-stainless-os"


async def test_streams_may_be_read_by_any_web_page_too(url: str) -> None:
    answer = await ask(url, "POST", "/v1/completions", STREAM)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["x-request-id"].startswith("cmpl-")


async def test_prompts_are_not_logged(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    await ask(url, "POST", "/v1/completions", {"model": "m", "prompt": "a secret"})
    await ask(url, "POST", "/v1/completions", {"model": "m", "prompt": ["a secret", 5]})
    assert "/v1/completions 200" in caplog.text
    assert "secret" not in caplog.text


# -- health --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phase", "health", "ready"),
    [(Phase.READY, 200, 200), (Phase.LOADING, 200, 503), (Phase.FAILED, 503, 503), (None, 200, 503)],
)
async def test_health_is_whether_it_can_serve_and_ready_whether_at_once(
    gateway: ScriptedGateway, url: str, phase: Phase | None, health: int, ready: int
) -> None:
    if phase is not None:
        gateway.facts.all["instance/a"] = instance_fact(phase, "why")
    answer = await ask(url, "GET", "/health")
    assert answer.status == health
    assert answer.json()["status"] == ("ok" if health == 200 else "failed")
    assert (await ask(url, "GET", "/ready")).status == ready


# -- metrics -------------------------------------------------------------------------------------


async def metric(url: str, name: str) -> float:
    lines = (await ask(url, "GET", "/metrics")).body.decode().splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


async def test_metrics_count_requests_and_tokens(gateway: ScriptedGateway, url: str) -> None:
    await ask(url, "POST", "/v1/completions", {"model": "m", "prompt": ["a", "b"]})
    assert await metric(url, 'exo_requests_total{outcome="completed"}') == 1
    assert await metric(url, "exo_prompt_tokens_total") == 14
    assert await metric(url, "exo_generation_tokens_total") == 4
    assert await metric(url, "exo_time_to_first_token_seconds_count") == 1
    assert await metric(url, "exo_inter_token_latency_seconds_count") == 2
    assert await metric(url, "exo_request_duration_seconds_count") == 1


async def test_metrics_show_the_latest_facts(gateway: ScriptedGateway) -> None:
    gateway.facts.all.update(
        {
            "node/a": node_fact(),
            "instance/a": instance_fact(),
            "request/1": request_fact("1"),
            "request/2": request_fact("2", RequestState.WAITING),
        }
    )
    async with serving(gateway, ApiSettings(bus_counts=lambda: {"malformed": 3})) as url:
        assert await metric(url, "exo_requests_running") == 1
        assert await metric(url, "exo_requests_waiting") == 1
        assert await metric(url, f'exo_instance_kv_bytes{{instance="{INSTANCE}"') == 4096
        assert await metric(url, "exo_node_memory_available_bytes") == 8e9
        assert await metric(url, 'exo_bus_events_total{kind="malformed"}') == 3


async def test_a_client_that_leaves_counts_as_cancelled(gateway: ScriptedGateway, url: str) -> None:
    gateway.script = silence
    async with connected(url) as connection:
        await connection.send("POST", "/v1/completions", STREAM)
        generation = await gateway.opened.get()
    await generation.left.wait()
    assert await metric(url, 'exo_requests_total{outcome="cancelled"}') == 1


# -- the page ------------------------------------------------------------------------------------


async def test_the_page_and_its_files_are_served_and_nothing_beside_them(url: str) -> None:
    page = await ask(url, "GET", "/")
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["cache-control"] == "no-cache"
    assert (await ask(url, "GET", "/ui/index.html")).body == page.body
    assert (await ask(url, "HEAD", "/")).status == 200
    for path in ("/ui/../api/server.py", "/ui/..%2Fapi%2Fserver.py", "/ui/%00", "/ui/none.js", "/ui/"):
        answer = await ask(url, "GET", path)
        assert answer.status == 404
        assert answer.error["code"] == "unknown_url"


async def test_the_page_can_be_left_out(gateway: ScriptedGateway) -> None:
    async with serving(gateway, ApiSettings(page=False)) as url:
        assert (await ask(url, "GET", "/")).status == 404
        assert (await ask(url, "GET", "/health")).status == 200


# -- concurrency ---------------------------------------------------------------------------------


async def test_many_streams_at_once_each_get_their_own_answer(gateway: ScriptedGateway, url: str) -> None:
    async def script(order: Order, say: Say) -> None:
        say(admitted(order))
        for number in range(20):
            say(Chunk(0, f"{order.request[-4:]} ", generated=number + 1))
            await asyncio.sleep(0)
        say(completed(order))

    gateway.script = script
    answers = await asyncio.gather(*(ask(url, "POST", "/v1/completions", STREAM) for _ in range(100)))
    for answer in answers:
        mark = answer.headers["x-request-id"][-4:].encode()
        assert answer.body.count(b'"text":"' + mark + b' "') == 20
        assert answer.body.endswith(b"data: [DONE]\n\n")
