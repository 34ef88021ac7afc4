"""A node without an engine and an API: the real bus, facts as often as a real one's, and a real Placement."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Final, Self

from actors.kernel.directory import Directory
from actors.kernel.reference import Ref
from actors.messages import Opened, PlacementMessage
from actors.placement import Placement
from actors.topology import PERIOD_S
from bus.bus import Bus
from bus.cluster import Cluster
from bus.keys import Keys
from bus.mesh import Mesh
from bus.messages.base import ModelId, NodeId, RequestId
from bus.messages.facts import (
    Accelerator,
    AcceleratorKind,
    Fact,
    ModelFact,
    NodeFact,
    RequestFact,
    RequestState,
)
from bus.traffic import Traffic
from host import memory, processor, rdma
from scripts.scaling.words import Heard, Passed, Saw

MODELS: Final = 3
"""How many models each node says that it has."""

MARK: Final = "request/mark-"

_SETTLE_S: Final = 3.0
_SECRET: Final = "light nodes"
_ACCELERATOR: Final = Accelerator(AcceleratorKind.CPU, "a light node", note="It computes nothing.")
_RDMA: Final = rdma.read()


class Sight:
    """What a node sees of its cluster, told whenever that has changed."""

    def __init__(self, number: int, bus: Bus, mesh: Mesh, tell: Callable[[Saw | Heard], None]) -> None:
        self._number, self._mesh, self._tell = number, mesh, tell
        self._seen: dict[str, set[str]] = {"node": set(), "model": set(), "coordinator": set()}
        self._last = Saw(number, 0.0)
        self._due = False
        bus.view.listen(self._hear)
        mesh.on_change(lambda member: self._look_soon(), lambda member, reason: self._look_soon())

    def _hear(self, key: str, fact: Fact | None) -> None:
        if key.startswith(MARK) and isinstance(fact, RequestFact):
            after_s = time.monotonic() - fact.started_at
            self._tell(Heard(self._number, int(key.removeprefix(MARK)), after_s))
            return
        seen = self._seen.get(key.partition("/")[0])
        if seen is None or (fact is not None and key in seen):
            return
        (seen.discard if fact is None else seen.add)(key)
        self._look_soon()

    def _look_soon(self) -> None:
        """One report for all that comes in one turn of the loop."""
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        self._due = False
        heads = tuple(sorted(key.partition("/")[2] for key in self._seen["coordinator"]))
        members, nodes, models = len(self._mesh.members), len(self._seen["node"]), len(self._seen["model"])
        saw = Saw(self._number, time.monotonic(), members, nodes, models, heads)
        if _content(saw) != _content(self._last):
            self._last = saw
            self._tell(saw)


class LightNode:
    """To be used on the loop's thread only."""

    def __init__(self, bus: Bus, mesh: Mesh, since: float, folder: Path) -> None:
        """Use `open`."""
        self._bus, self._mesh, self._since = bus, mesh, since
        self.address = mesh.address
        opened = Event()
        self._placement: Ref[PlacementMessage] = Placement.start(
            bus.node, bus, Directory(), (), folder, since, opened=opened
        )
        self._tasks = (
            asyncio.create_task(self._take_part(opened)),
            asyncio.create_task(self._tell_facts()),
        )

    @classmethod
    async def open(
        cls, number: int, peers: tuple[str, ...], folder: Path, tell: Callable[[Saw | Heard], None]
    ) -> Self:
        """Start node `number`, which calls these others; `tell` hears what it sees."""
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        since = time.time()
        name = node_id(number)
        cluster = Cluster(_SECRET, "127.0.0.1", 0, peers, False, name, "0", since)
        bus = await Bus.open(name, cluster=cluster)
        assert bus.mesh is not None
        Sight(number, bus, bus.mesh, tell)
        return cls(bus, bus.mesh, since, folder)

    def mark(self, mark: int) -> None:
        """Publish a fact that bears the present time."""
        key, now = f"{MARK}{mark}", time.monotonic()
        name = RequestId(f"mark-{mark}")
        self._bus.publish(
            key, RequestFact(name, self._bus.node, ModelId("light"), RequestState.DECODE, "", now)
        )

    def passed(self) -> Passed:
        """Its traffic with all others."""
        whole = sum(self._mesh.traffic().values(), Traffic())
        return Passed(whole.bytes_in, whole.bytes_out, whole.messages_in, whole.messages_out)

    async def close(self) -> None:
        """Stop its Placement, and leave."""
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await self._placement.stop(block=False)
        await self._bus.close()

    async def _take_part(self, opened: Event) -> None:
        """As a node does: decide nothing for others before those that were named are found."""
        await self._mesh.settled(_SETTLE_S)
        opened.set()
        self._placement.post(Opened())

    async def _tell_facts(self) -> None:
        for model in range(MODELS):
            fact = _model(self._bus.node, model)
            self._bus.publish(f"model/{fact.node}/{fact.id}", fact)
        while True:
            # Sensors are files, and on some systems commands.
            fact_of_node = await asyncio.to_thread(self._look_at_machine)
            self._bus.publish(f"node/{self._bus.node}", fact_of_node)
            await asyncio.sleep(PERIOD_S)

    def _look_at_machine(self) -> NodeFact:
        return NodeFact(
            id=self._bus.node,
            name=self._bus.node,
            version="0",
            url=f"http://{self.address}",
            started_at=self._since,
            memory=memory.read(),
            accelerator=_ACCELERATOR,
            cpu_count=processor.usable_count(),
            cpu_load=processor.load(),
            facts_endpoint=self._bus.facts_endpoint,
            address=self.address,
            gigaflops=100.0,
            bandwidth_gb_s=10.0,
            backends_note=_RDMA.problem,
        )


def node_id(number: int) -> NodeId:
    """Who node `number` is; as long as a real id."""
    return NodeId(f"light-node-{number:04d}")


def keys() -> Keys:
    """The cluster's; takes a moment for the first time in a process."""
    return Keys.of(_SECRET)


def _content(saw: Saw) -> tuple[int, int, int, tuple[str, ...]]:
    return saw.members, saw.nodes, saw.models, saw.coordinators


def _model(node: NodeId, number: int) -> ModelFact:
    name = ModelId(f"light/model-{number}-bf16")
    return ModelFact(
        id=name,
        node=node,
        path=f"/models/{name}",
        size_bytes=8_000_000_000,
        architecture="llama",
        context=131_072,
        created_at=0.0,
        folder_mark=f"{number:032x}",
    )
