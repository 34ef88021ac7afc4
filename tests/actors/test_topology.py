"""A node tells what it is, what a person gave it for KV cache, and that it is about to leave."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from actors.messages import Leave
from actors.topology import Identity, Topology
from bus.bus import Bus
from bus.messages.base import NodeId
from bus.messages.facts import NodeFact
from tests.actors.probe import soon

WHO = Identity(NodeId("n-1"), "attic", "1.0", "http://127.0.0.1:1", 1.5, kv_memory=4_000_000_000)


async def told(bus: Bus, holds: Callable[[NodeFact], bool] = lambda fact: True) -> NodeFact:
    """What the node says of itself, once it is as it should be."""
    changes = bus.view.changes()
    async with asyncio.timeout(20):
        while True:
            fact = bus.view.facts().get(f"node/{WHO.id}")
            if isinstance(fact, NodeFact) and holds(fact):
                return fact
            await anext(changes)


async def test_a_node_tells_of_itself_and_goes_on_leaving_when_its_topology_is_started_again(
    tmp_path: Path, bound_loop: asyncio.AbstractEventLoop
) -> None:
    bus = await Bus.open(WHO.id)
    try:
        first = Topology.start(WHO, bus, tmp_path)
        fact = await told(bus)
        assert (fact.name, fact.started_at, fact.kv_memory_bytes) == ("attic", 1.5, 4_000_000_000)
        assert fact.memory.total_bytes > 0
        assert not fact.leaving
        first.post(Leave())
        await told(bus, lambda fact: fact.leaving)
        first.kill("a test")
        await soon(first.ended)
        again = Topology.start(WHO, bus, tmp_path)
        before = await told(bus)
        assert (await told(bus, lambda fact: fact is not before)).leaving
        again.stop(block=False)
        await soon(again.ended)
    finally:
        await bus.close()
