"""The names by which a node's actors find each other in the Directory."""

from actors.directory import Name
from actors.messages import (
    DownloaderMessage,
    PlacementMessage,
    RunnerMessage,
    SupervisorMessage,
    TopologyMessage,
)
from bus.messages.base import InstanceId

SUPERVISOR: Name[SupervisorMessage] = Name("supervisor")
TOPOLOGY: Name[TopologyMessage] = Name("topology")
DOWNLOADER: Name[DownloaderMessage] = Name("downloader")
PLACEMENT: Name[PlacementMessage] = Name("placement")


def runner(instance: InstanceId) -> Name[RunnerMessage]:
    """The Runner of an instance."""
    return Name(f"runner/{instance}")
