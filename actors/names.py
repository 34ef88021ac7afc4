"""The names by which a node's actors find each other in the Directory."""

from actors.kernel.directory import Name
from actors.messages import (
    DoorMessage,
    DownloaderMessage,
    ExchangeMessage,
    PlacementMessage,
    RelayMessage,
    RunnerMessage,
    StockMessage,
    SupervisorMessage,
    TopologyMessage,
)
from bus.messages.base import InstanceId

SUPERVISOR: Name[SupervisorMessage] = Name("supervisor")
TOPOLOGY: Name[TopologyMessage] = Name("topology")
DOWNLOADER: Name[DownloaderMessage] = Name("downloader")
PLACEMENT: Name[PlacementMessage] = Name("placement")
STOCK: Name[StockMessage] = Name("stock")
EXCHANGE: Name[ExchangeMessage] = Name("exchange")


def rank(instance: InstanceId, epoch: int) -> Name[RunnerMessage]:
    """The Runner of this node's own rank."""
    return Name(f"rank/{instance}/{epoch}")


def door(instance: InstanceId, epoch: int) -> Name[DoorMessage]:
    """Whom requests are dispatched to: the Runner of the instance's rank 0, or the Door that leads there."""
    return Name(f"door/{instance}/{epoch}")


def relay(instance: InstanceId, epoch: int) -> Name[RelayMessage]:
    """The Door that takes what another node's rank 0 says."""
    return Name(f"relay/{instance}/{epoch}")


def epoch_of(name: str) -> tuple[InstanceId, int] | None:
    """Which epoch of an instance an actor of that name belongs to; None: none."""
    kind, _, rest = name.partition("/")
    instance, _, epoch = rest.rpartition("/")
    return (InstanceId(instance), int(epoch)) if kind in ("rank", "door") else None
