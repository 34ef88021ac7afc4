"""Nodes as processes of their own, lost by force: what they asked for is freed, and what they ran goes on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from bus.messages.base import ModelId
from bus.messages.facts import InstanceFact
from bus.messages.placement import Wish
from exo_actors.node import Node
from tests.node.clusters import KEY, address, cluster, joined, node_id, place, served
from tests.node.conftest import TINY
from tests.node.nodes import answer, decoding, idle, is_idle, order, process, until


@asynccontextmanager
async def another(
    name: str, data_dir: Path, models_dir: Path, peer: Node
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A node in a process of its own, that has joined `peer`; and its address."""
    places = ("--data-dir", str(data_dir / name), "--models-dir", str(models_dir), "--name", name)
    joins = ("--bus-port", "0", "--peer", address(peer), "--cluster-key", KEY)
    async with process(*places, *joins, "--no-mdns", "--no-model", "--offline") as (running, url):
        await joined(peer, 2)
        yield running, url


async def test_the_death_of_the_node_that_took_a_request_frees_its_ranks_before_its_silence_would(
    tmp_path: Path, models_dir: Path
) -> None:
    async with cluster(1, tmp_path, models_dir, "--no-model") as (runs,):
        instance = await place(runs, Wish(model=ModelId(TINY)))
        await served(runs, instance.id)
        async with another("asks", tmp_path, models_dir, runs) as (asks, url):
            body = {"model": TINY, "prompt": "Hello", "max_tokens": 2000, "n": 4, "stream": True}
            async with aiohttp.ClientSession() as session:
                response = await session.post(f"{url}/v1/completions", json={**body, "ignore_eos": True})
                await response.content.readline()
                await until(runs.bus.view, InstanceFact, lambda fact: fact.running == 4)
                reasons: list[str] = []
                assert runs.bus.mesh is not None
                runs.bus.mesh.on_change(lambda member: None, lambda member, reason: reasons.append(reason))
                asks.kill()
                await until(runs.bus.view, InstanceFact, is_idle)
                assert reasons == ["its process ended"]


async def test_a_model_goes_on_without_the_node_of_its_first_rank(tmp_path: Path, models_dir: Path) -> None:
    async with cluster(1, tmp_path, models_dir, "--no-model") as (stays,):
        async with another("dies", tmp_path, models_dir, stays) as (dies, _):
            other = next(iter(stays.bus.mesh.members)) if stays.bus.mesh else None
            assert other is not None
            instance = await place(stays, Wish(model=ModelId(TINY), nodes=(other, node_id(stays))))
            await served(stays, instance.id)
            whole = await answer(stays, order("whole", TINY, tokens=250))
            stream = asyncio.create_task(answer(stays, order("stream", TINY, tokens=250)))
            await decoding(stays, "stream")
            dies.kill()
            assert await stream == whole
            assert (await idle(stays, TINY)).nodes == (node_id(stays),)
