"""Nodes of a cluster, in this process or in one of their own, and what a test may wait for."""

import asyncio
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from signal import SIGKILL

from bus.backoff import Backoff
from bus.bus import Bus
from bus.cluster import Cluster, Member
from bus.mesh import Mesh
from bus.messages.base import InstanceId, NodeId
from bus.messages.facts import Fact
from bus.messages.placement import Withdraw
from bus.sockets import Limits
from tests.bus.conftest import BRISK
from tests.bus.ends import DEADLINE_S

SECRET = "correct horse"

ASKED = Withdraw(InstanceId("i-1"))
"""A command that one node may give another."""

LIVELY = replace(
    BRISK,
    beat_s=0.05,
    silence_s=1.0,
    silence_ms=3_600_000,
    gossip_s=0.1,
    dial=Backoff(0.05, 0.2),
    dial_s=1.0,
    reconnect_at_most_ms=50,
)
"""Beats and calls often, so that what is lost is soon missed, and found again; ZeroMQ's own heartbeats end no
connection, for whether they or the silence did would be a matter of chance."""


def cluster(name: str, *peers: str, secret: str = SECRET, port: int = 0, mdns: bool = False) -> Cluster:
    return Cluster(secret, "127.0.0.1", port, peers, mdns, name, "0.1", time.time())


def mesh_of(bus: Bus) -> Mesh:
    assert bus.mesh is not None
    return bus.mesh


@dataclass
class Watch:
    """What a node heard of members, in order."""

    mesh: Mesh
    happened: list[tuple[str, NodeId]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.mesh.on_change(self._joined, self._left)

    def _joined(self, member: Member) -> None:
        self.happened.append(("joined", member.id))

    def _left(self, member: Member, reason: str) -> None:
        self.happened.append(("left", member.id))
        self.reasons.append(reason)


class Nodes:
    """Opens nodes, named by number, and closes them all at the end."""

    def __init__(self) -> None:
        self._open = AsyncExitStack()

    async def open(
        self,
        number: int,
        *peers: Bus | str,
        limits: Limits = LIVELY,
        secret: str = SECRET,
        port: int = 0,
        mdns: bool = False,
    ) -> Bus:
        addresses = [peer if isinstance(peer, str) else mesh_of(peer).address for peer in peers]
        told = cluster(f"node {number}", *addresses, secret=secret, port=port, mdns=mdns)
        bus = await Bus.open(NodeId(f"n-{number}"), limits=limits, cluster=told)
        self._open.push_async_callback(bus.close)
        return bus

    async def close(self) -> None:
        await self._open.aclose()


@asynccontextmanager
async def nodes() -> AsyncIterator[Nodes]:
    opened = Nodes()
    try:
        yield opened
    finally:
        await opened.close()


async def until(holds: Callable[[], bool]) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(DEADLINE_S):
        while not holds():
            await _a_moment()


async def _a_moment() -> None:
    """Not everything that a test waits for tells of itself: counts, and what other processes do."""
    await asyncio.sleep(0.002)


async def know_each_other(*buses: Bus) -> None:
    """Each is a member for all others."""
    ids = {bus.node for bus in buses}
    await until(lambda: all(set(mesh_of(bus).members) == ids - {bus.node} for bus in buses))


async def holds(bus: Bus, facts: dict[str, Fact]) -> None:
    await until(lambda: bus.view.facts() == facts)


class NodeProcess:
    """A node in a process of its own: `tests.bus.node_process`."""

    def __init__(self, process: Process, address: str) -> None:
        self.process = process
        self.address = address


@asynccontextmanager
async def node_process(number: int, *peers: Bus, port: int = 0) -> AsyncIterator[NodeProcess]:
    addresses = [mesh_of(peer).address for peer in peers]
    arguments = ("-m", "tests.bus.node_process", str(number), str(port), *addresses)
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(DEADLINE_S):
            address = (await process.stdout.readline()).decode().strip()
        yield NodeProcess(process, address)
    finally:
        if process.returncode is None:
            process.send_signal(SIGKILL)
        await process.communicate()
