"""Clusters of whole nodes for tests: each node with its own data directory and ports, all in this process."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from actors.gateway import View
from actors.running.watchdog import Deadlines
from bus.messages.base import InstanceId, NodeId
from bus.messages.engine import Phase
from bus.messages.facts import DeclaredFact, InstanceFact, ModelFact
from bus.messages.generation import Refusal
from bus.messages.placement import Instance, Wish
from exo_actors.node import Node
from exo_actors.settings import Settings, read
from tests.node.nodes import LEARNT, MOMENTS_S, running, until

KEY = "a key that only the nodes of this test know"


def member(
    name: str, data_dir: Path, models_dir: Path, peers: Sequence[str] = (), *arguments: str
) -> Settings:
    """Settings of a node that joins `peers` and serves nothing by itself."""
    given = ["--port", "0", "--bus-port", "0", "--no-mdns", "--offline", "--no-spare", "--name", name]
    given += ["--data-dir", str(data_dir / name), "--models-dir", str(models_dir), "--cluster-key", KEY]
    for peer in peers:
        given += ["--peer", peer]
    return read([*given, *arguments], {})


def address(node: Node) -> str:
    """Where others reach it."""
    assert node.bus.mesh is not None
    return node.bus.mesh.address


@asynccontextmanager
async def cluster(
    count: int, data_dir: Path, models_dir: Path, *arguments: str, deadlines: Deadlines | None = None
) -> AsyncIterator[list[Node]]:
    """So many nodes, `n0`, `n1`, ..., that know each other; the first one is the coordinator."""
    models = _models_in(models_dir)
    async with AsyncExitStack() as stack:
        nodes: list[Node] = []
        for index in range(count):
            peers = [address(node) for node in nodes]
            settings = member(f"n{index}", data_dir, models_dir, peers, *arguments)
            nodes.append(await stack.enter_async_context(running(settings, deadlines)))
        for node in nodes:
            await joined(node, count)
            for other in nodes:
                await knows_copies(node, node_id(other), models)
        yield nodes


async def joined(node: Node, count: int) -> None:
    """Wait until a node knows so many members, itself included."""
    mesh = node.bus.mesh
    assert mesh is not None
    async with asyncio.timeout(MOMENTS_S):
        changes = node.bus.view.changes()
        while len(mesh.members) + 1 < count:
            await anext(aiter(changes))


async def knows_copies(node: Node, other: NodeId, models: set[str]) -> None:
    """Wait until a node knows that a member has these models: that it is a member comes first."""
    view = node.bus.view
    changes = view.changes()
    async with asyncio.timeout(MOMENTS_S):
        while not models <= _copies(view, other):
            await anext(aiter(changes))


def _models_in(models_dir: Path) -> set[str]:
    return {path.name for path in models_dir.iterdir() if path.name != LEARNT}


def _copies(view: View, node: NodeId) -> set[str]:
    return {fact.id for fact in view.facts().values() if isinstance(fact, ModelFact) and fact.node == node}


def node_id(node: Node) -> NodeId:
    """Its id."""
    return node.gateway.node


async def place(node: Node, wish: Wish) -> Instance:
    """Have a wish placed that has to be possible."""
    created = await node.gateway.create(wish, replicas=1)
    assert not isinstance(created, Refusal), created
    (instance,) = created
    return instance


async def served(node: Node, instance: InstanceId, epoch: int = 1) -> InstanceFact:
    """Wait until an instance is ready, in this epoch or a later one, as that node sees it."""
    return await until(
        node.bus.view,
        InstanceFact,
        lambda fact: fact.id == instance and fact.epoch >= epoch and fact.phase is Phase.READY,
    )


async def declared(node: Node, instance: InstanceId, epoch: int) -> DeclaredFact:
    """Wait until an epoch of an instance, or a later one, is declared."""
    return await until(
        node.bus.view,
        DeclaredFact,
        lambda fact: fact.instance.id == instance and fact.instance.epoch >= epoch,
    )
