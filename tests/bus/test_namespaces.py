"""Nodes on machines of their own, as network namespaces are: they listen for each other, and join."""

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from signal import SIGKILL
from typing import Final

import aiohttp
import pytest

from scripts.fault_runs.network import Namespaces, Place, why_no_namespaces

MOMENTS_S: Final = 60.0
KEY: Final = "a key that only the nodes of this test know"
PROBLEM: Final = why_no_namespaces()

pytestmark = pytest.mark.skipif(bool(PROBLEM), reason=PROBLEM)


@pytest.fixture(scope="module")
def places() -> Iterator[tuple[Place, Place]]:
    network = Namespaces(2)
    yield network.places[0], network.places[1]
    network.close()


@asynccontextmanager
async def node(place: Place, folder: Path, *flags: str) -> AsyncIterator[str]:
    """One that listens for others where its namespace has its address; where its API is."""
    port = ("--host", place.host, "--port", "0", "--listen", place.listen, "--bus-port", str(place.bus_port))
    given = ("--no-model", "--offline", "--cluster-key", KEY, "--data-dir", str(folder / place.listen))
    command = (*place.prefix, sys.executable, "-m", "exo_actors", *port, *given, *flags)
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=DEVNULL)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(MOMENTS_S):
            url = (await process.stdout.readline()).decode().strip()
        yield url
    finally:
        process.send_signal(SIGKILL)
        await process.communicate()


async def addresses(url: str, count: int) -> set[str]:
    """Where the nodes of a cluster are for others, as soon as it has so many."""
    async with aiohttp.ClientSession() as client, asyncio.timeout(MOMENTS_S):
        while True:
            async with client.get(f"{url}/v1/cluster") as answer:
                found = {each["address"] for each in (await answer.json())["nodes"]}
            if len(found) == count:
                return found
            await asyncio.sleep(0.05)  # the API tells the state, and this is not about its events


async def test_a_node_joins_the_one_that_was_named_on_another_machine(
    places: tuple[Place, Place], tmp_path: Path
) -> None:
    one, two = places
    named = f"{one.listen}:{one.bus_port}"
    async with (
        node(one, tmp_path, "--no-mdns") as first,
        node(two, tmp_path, "--no-mdns", "--peer", named) as second,
    ):
        both = {named, f"{two.listen}:{two.bus_port}"}
        assert await addresses(first, 2) == await addresses(second, 2) == both


async def test_nodes_of_one_network_find_each_other_without_being_named(
    places: tuple[Place, Place], tmp_path: Path
) -> None:
    one, two = places
    async with node(one, tmp_path) as first, node(two, tmp_path) as second:
        both = {f"{place.listen}:{place.bus_port}" for place in places}
        assert await addresses(first, 2) == await addresses(second, 2) == both


async def test_a_machine_with_two_networks_tells_others_its_address_in_theirs(
    places: tuple[Place, Place],
) -> None:
    one, two = places
    look = "import sys; from bus.reach import own_address; print(own_address('0.0.0.0', sys.argv[1:]))"
    for peer, expected in ((two.listen, one.listen), (one.host.rpartition(".")[0] + ".1", one.host)):
        command = (*one.prefix, sys.executable, "-c", look, f"{peer}:1")
        process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
        said, _ = await process.communicate()
        assert said.decode().strip() == expected
