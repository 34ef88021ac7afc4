"""The Supervisor actor: a node's tree of actors, started in order and kept alive."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from actors import names
from actors.directory import Directory
from actors.downloader import Downloader
from actors.messages import RunnerMessage, SupervisorMessage
from actors.placement import Placement
from actors.restarts import Intensity, Restart, Strategy
from actors.runner import Runner, RunnerSettings
from actors.supervision import Child, Supervisor
from actors.topology import Identity, Topology
from bus.bus import Bus
from bus.messages.placement import Declared, Instance, Want, Withdrawn

INTENSITY = Intensity(restarts=5, period_s=10.0)
"""Beyond it the node gives up, loudly."""


@dataclass(frozen=True, slots=True)
class NodePlan:
    """What a node is started with."""

    identity: Identity
    directories: tuple[Path, ...]
    """Models directories; the first that holds a name counts."""
    folders: tuple[Path, ...]
    """Single model folders that were named by their path."""
    wishes: tuple[Want, ...]
    """What to place at once."""
    runners: RunnerSettings


class NodeSupervisor(Supervisor[SupervisorMessage]):
    """One-for-one: the actors find each other by name, so a restarted one disturbs nobody, and an instance
    stays loaded whatever becomes of the Placement that declared it. Runners come and go as told."""

    def __init__(self, plan: NodePlan, bus: Bus, directory: Directory) -> None:
        self._plan, self._bus = plan, bus
        node = plan.identity.id
        topology = Child(names.TOPOLOGY, partial(Topology.start, plan.identity, bus))
        downloader = Child(
            names.DOWNLOADER, partial(Downloader.start, node, bus, plan.directories, plan.folders)
        )
        placement = Child(names.PLACEMENT, partial(Placement.start, node, bus, directory, plan.wishes))
        super().__init__(
            topology,
            downloader,
            placement,
            strategy=Strategy.ONE_FOR_ONE,
            intensity=INTENSITY,
            directory=directory,
        )

    def on_start(self) -> None:
        """Be known first: the Placement tells what to run as soon as it starts."""
        self._directory.register(names.SUPERVISOR, self.actor_ref)
        super().on_start()

    def on_message(self, message: SupervisorMessage) -> None:
        """Run an instance here, or run it no more."""
        match message:
            case Declared(instance=instance):
                self.supervise(self._runner(instance))
            case Withdrawn(instance=gone):
                self.release(names.runner(gone))

    def _runner(self, instance: Instance) -> Child[RunnerMessage]:
        return Child(
            names.runner(instance.id),
            partial(Runner.start, instance, self._bus, self._directory, self._plan.runners),
            restart=Restart.TRANSIENT,
            stop_within_s=self._plan.runners.patience_s + 2.0,
        )
