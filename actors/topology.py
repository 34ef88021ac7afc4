"""The Topology actor: owns this machine's facts and publishes them once a second."""

from dataclasses import dataclass
from pathlib import Path

from actors.kernel.actor import ThreadActor
from actors.messages import Leave, Measure, Tick, TopologyMessage
from bus.bus import Bus
from bus.messages.base import NodeId
from bus.messages.facts import NodeFact
from bus.messages.placement import Interconnect
from host import accelerator, memory, processor, rdma, speed

PERIOD_S = 1.0

MEASURE_AFTER_S = 5.0
"""Measuring takes all cores for a moment: not while the first model loads."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What does not change while a node runs."""

    id: NodeId
    name: str
    version: str
    url: str
    started_at: float
    """Seconds since 1970."""
    kv_memory: int | None = None
    """Bytes of KV cache on this node, all models together, at most; None: what its memory allows."""


class Topology(ThreadActor[TopologyMessage]):
    """Reads the sensors. On its own thread, since some of them are files and subprocesses."""

    def __init__(self, identity: Identity, bus: Bus, data_dir: Path) -> None:
        super().__init__()
        self._identity, self._bus, self._data_dir = identity, bus, data_dir
        self._speed = speed.recall(data_dir)
        before = bus.view.facts().get(self._key)  # what a Topology said that failed
        self._leaving = isinstance(before, NodeFact) and before.leaving

    def on_start(self) -> None:
        """Read what stays as it is, and publish for the first time."""
        self._accelerator = accelerator.read()
        self._rdma = rdma.read()
        self._publish()
        self.tell_later(PERIOD_S, Tick())
        if self._speed is None:
            self.tell_later(MEASURE_AFTER_S, Measure())

    def on_receive(self, message: TopologyMessage) -> None:
        """Publish again."""
        match message:
            case Tick():
                self.tell_later(PERIOD_S, Tick())
            case Measure():
                self._speed = speed.measure_and_keep(self._data_dir)
            case Leave():
                self._leaving = True
        self._publish()

    @property
    def _key(self) -> str:
        return f"node/{self._identity.id}"

    def _publish(self) -> None:
        mesh = self._bus.mesh
        fact = NodeFact(
            id=self._identity.id,
            name=self._identity.name,
            version=self._identity.version,
            url=self._identity.url,
            started_at=self._identity.started_at,
            memory=memory.read(),
            accelerator=self._accelerator,
            cpu_count=processor.usable_count(),
            cpu_load=processor.load(),
            facts_endpoint=self._bus.facts_endpoint,
            address=mesh.address if mesh is not None else "",
            gigaflops=self._speed.gigaflops if self._speed else 0.0,
            bandwidth_gb_s=self._speed.bandwidth_gb_s if self._speed else 0.0,
            leaving=self._leaving,
            backends=(Interconnect.RING, Interconnect.JACCL) if self._rdma.devices else (Interconnect.RING,),
            backends_note=self._rdma.problem,
            rdma_devices=self._rdma.devices,
            kv_memory_bytes=self._identity.kv_memory,
        )
        self._bus.publish(self._key, fact)
