"""Whatever is sent to a node, it answers with a clear error or an answer, and serves on."""

import asyncio
import json
import random
from pathlib import Path

import aiohttp
import zmq

from bus.counts import Count
from tests.node.conftest import TINY
from tests.node.hostile import bodies
from tests.node.nodes import answer, engines, idle, order, ready, running, settings


async def test_hundreds_of_broken_bodies_each_get_an_answer_and_the_node_serves_on(
    tmp_path: Path, models_dir: Path
) -> None:
    async with running(settings(tmp_path, models_dir, TINY)) as node:
        await ready(node, TINY)
        before, engine = await answer(node, order("before", TINY)), engines()
        statuses: dict[int, int] = {}
        async with aiohttp.ClientSession(node.url) as session:
            for path, body in bodies(400, seed=20):
                async with session.post(path, data=body) as response:
                    said = await response.read()
                    statuses[response.status] = statuses.get(response.status, 0) + 1
                    if response.status != 200:
                        error = json.loads(said)["error"]
                        assert error["message"], (path, body)
                        assert response.status < 500, (path, body, error)
        assert min(statuses.get(200, 0), statuses.get(400, 0)) > 50, statuses
        assert await answer(node, order("after", TINY)) == before
        assert engines() == engine, "the same engine process"
        await idle(node, TINY)


async def shout(endpoint: str, messages: int) -> None:
    """Send rubbish to a node's commands from a routing id that nobody expects, and wait until it is out."""
    randomness = random.Random(21)
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.IDENTITY, b"stranger")
        socket.connect(endpoint)
        for _ in range(messages):
            await asyncio.to_thread(socket.send, randomness.randbytes(randomness.randrange(300)))
        socket.linger = 5000


async def test_strangers_on_the_bus_are_counted_and_heard_by_nobody(tmp_path: Path, models_dir: Path) -> None:
    async with running(settings(tmp_path, models_dir, TINY)) as node:
        await ready(node, TINY)
        before = await answer(node, order("before", TINY))
        await shout(node.bus.commands_endpoint, 1000)
        assert await answer(node, order("after", TINY)) == before
        assert node.bus.counts[Count.STRANGER] > 0
