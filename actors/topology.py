"""The Topology actor: owns this machine's facts and publishes them once a second."""

from dataclasses import dataclass

from actors.actor import ThreadActor
from actors.messages import ReadMemory, Tick, TopologyMessage
from bus.bus import Bus
from bus.messages.base import NodeId
from bus.messages.facts import Memory, NodeFact
from host import accelerator, memory, processor

PERIOD_S = 1.0


@dataclass(frozen=True, slots=True)
class Identity:
    """What does not change while a node runs."""

    id: NodeId
    name: str
    version: str
    url: str
    started_at: float
    """Seconds since 1970."""


class Topology(ThreadActor[TopologyMessage]):
    """Reads the sensors. On its own thread, since some of them are files and subprocesses."""

    def __init__(self, identity: Identity, bus: Bus) -> None:
        super().__init__()
        self._identity, self._bus = identity, bus

    def on_start(self) -> None:
        """Read what stays as it is, and publish for the first time."""
        self._accelerator = accelerator.read()
        self._publish()

    def on_receive(self, message: TopologyMessage) -> Memory | None:
        """Publish again, or answer how much memory there is right now."""
        match message:
            case ReadMemory():
                return memory.read()
            case Tick():
                self._publish()
                return None

    def _publish(self) -> None:
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
        )
        self._bus.publish(f"node/{fact.id}", fact)
        self.tell_later(PERIOD_S, Tick())
