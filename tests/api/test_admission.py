"""Who asks is let in by its key, at its priority, or told when to come back."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest

from api.errors import ApiError, ErrorKind, Fault
from api.server import Server
from api.settings import ApiSettings
from bus.messages.generation import RefusalCode
from tests.api.raw import ask, connected
from tests.api.scripted import ScriptedGateway, either, playing, refused, silence

BODIES = {
    "/v1/chat/completions": {"model": "m", "messages": [{"role": "user", "content": "a"}], "priority": -2},
    "/v1/completions": {"model": "m", "prompt": "a", "priority": -2},
    "/v1/embeddings": {"model": "m", "input": "a", "priority": -2},
}


class OneEach:
    """One request at a time for each key, all at priority 10."""

    def __init__(self) -> None:
        self.inside: list[str] = []
        self.seen: list[str] = []
        self.left = asyncio.Event()

    def know(self, key: str) -> None:
        """Everybody is known."""

    @contextmanager
    def enter(self, key: str, wished: int = 0) -> Iterator[int]:
        if key in self.inside:
            message = "This key has a request under way."
            raise ApiError(Fault(429, message, ErrorKind.RATE_LIMIT, code="overloaded", retry_after_s=1.2))
        self.inside.append(key)
        self.seen.append(key)
        try:
            yield 10 + wished
        finally:
            self.inside.remove(key)
            self.left.set()


@pytest.fixture
def door() -> OneEach:
    return OneEach()


@pytest.fixture
async def url(gateway: ScriptedGateway, door: OneEach) -> AsyncIterator[str]:
    server = Server(gateway, ApiSettings(port=0), door)
    address = await server.start()
    yield address
    await server.stop()


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ("", ""),
        ("Authorization: Bearer abc\r\n", "abc"),
        ("authorization: bearer  abc \r\n", "abc"),
        ("x-api-key: xyz\r\n", "xyz"),
        ("Authorization: Basic abc\r\nX-API-Key: xyz\r\n", "xyz"),
        ("Authorization: Bearer abc\r\nX-API-Key: xyz\r\n", "abc"),
    ],
)
async def test_a_key_is_shown_in_either_header(url: str, door: OneEach, headers: str, key: str) -> None:
    assert (await ask(url, "POST", "/v1/completions", {"model": "m", "prompt": "a"}, headers)).status == 200
    assert door.seen == [key]
    assert door.inside == []


@pytest.mark.parametrize("path", BODIES)
async def test_the_keys_priority_and_the_bodys_add_up(gateway: ScriptedGateway, url: str, path: str) -> None:
    gateway.script = either
    assert (await ask(url, "POST", path, BODIES[path])).status == 200
    assert gateway.order.priority == 12


@pytest.mark.parametrize("stream", [True, False])
async def test_too_much_under_way_is_429_until_the_first_has_left(
    gateway: ScriptedGateway, url: str, door: OneEach, stream: bool
) -> None:
    gateway.script = silence
    body = {"model": "m", "prompt": "a", "stream": stream}
    async with connected(url) as first:
        await first.send("POST", "/v1/completions", b'{"model":"m","prompt":"a"}', "x-api-key: k\r\n")
        await gateway.opened.get()
        answer = await ask(url, "POST", "/v1/completions", body, "x-api-key: k\r\n")
        assert (answer.status, answer.headers["retry-after"], answer.error["code"]) == (
            429,
            "2",
            "overloaded",
        )
        assert answer.headers["retry-after-ms"] == "1200"
    async with asyncio.timeout(10):
        await door.left.wait()
    assert (door.inside, len(gateway.generations)) == ([], 1)


@pytest.mark.parametrize(("wait_s", "header"), [(0.2, "1"), (2.0, "2"), (7.3, "8")])
async def test_a_full_queue_says_when_to_come_back_in_whole_seconds(
    gateway: ScriptedGateway, url: str, wait_s: float, header: str
) -> None:
    gateway.script = playing(refused(RefusalCode.OVERLOADED, "The queue is full.", retry_after_s=wait_s))
    answer = await ask(url, "POST", "/v1/completions", {"model": "m", "prompt": "a"})
    assert (answer.status, answer.headers["retry-after"]) == (429, header)
