"""The Supervisor actor: a node's tree of actors, started in order and kept alive."""

import threading
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from actors import names
from actors.door import Door
from actors.downloader import Downloader
from actors.exchange import Exchange
from actors.kernel.directory import Directory
from actors.kernel.restarts import Intensity, Restart, Strategy
from actors.kernel.supervision import Child, Supervisor
from actors.messages import Release, Run, RunnerMessage, SupervisorMessage
from actors.placement import Placement
from actors.runner import Runner
from actors.running.runner_settings import RunnerSettings
from actors.stock import Stock
from actors.topology import Identity, Topology
from bus.bus import Bus
from bus.messages.placement import Instance, Wish

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
    wishes: tuple[Wish, ...]
    """What to place at once."""
    runners: RunnerSettings
    data_dir: Path
    spare: bool = True
    """While there are other nodes, an engine process is kept ready."""
    auto_place: bool = True
    """Asking for a model that is not placed places it."""
    opened: threading.Event = field(default_factory=threading.Event)
    """Set when those that were to be found at the start have been found, or have had their time."""


class NodeSupervisor(Supervisor[SupervisorMessage]):
    """One-for-one: the actors find each other by name, so a restarted one disturbs nobody, and an instance
    stays loaded whatever becomes of the Placement that declared it. Runners come and go as told."""

    def __init__(self, plan: NodePlan, bus: Bus, directory: Directory) -> None:
        self._plan, self._bus = plan, bus
        node = plan.identity.id
        topology = Child(names.TOPOLOGY, partial(Topology.start, plan.identity, bus, plan.data_dir))
        downloader = Child(
            names.DOWNLOADER,
            partial(Downloader.start, node, bus, plan.directories, plan.folders, plan.data_dir),
        )
        placement = Child(
            names.PLACEMENT,
            partial(
                Placement.start,
                node,
                bus,
                directory,
                plan.wishes,
                plan.data_dir,
                plan.identity.started_at,
                auto_place=plan.auto_place,
                opened=plan.opened,
            ),
        )
        exchange = [Child(names.EXCHANGE, partial(Exchange.start, bus.mesh, directory))] if bus.mesh else []
        stock = Child(names.STOCK, partial(Stock.start, bus, keeps_spare=plan.spare))
        super().__init__(
            stock,
            topology,
            downloader,
            placement,
            *exchange,
            strategy=Strategy.ONE_FOR_ONE,
            intensity=INTENSITY,
            directory=directory,
        )

    def on_start(self) -> None:
        """Be known first: the Placement tells what to run as soon as it starts."""
        self._directory.register(names.SUPERVISOR, self.actor_ref)
        super().on_start()

    def on_message(self, message: SupervisorMessage) -> None:
        """Do this node's part of an instance, or do it no more."""
        match message:
            case Run(instance=instance):
                self._run(instance)
            case Release(instance=gone, epoch=epoch):
                self.release(names.door(gone, epoch))
                self.release(names.rank(gone, epoch))

    def _run(self, instance: Instance) -> None:
        rank = instance.rank_of(self._plan.identity.id)
        if rank is not None:
            self.supervise(self._runner(instance))
        if rank != 0:
            self._lead_to(instance)

    def _runner(self, instance: Instance) -> Child[RunnerMessage]:
        plan = self._plan
        return Child(
            names.rank(instance.id, instance.epoch),
            partial(Runner.start, instance, plan.identity.id, self._bus, self._directory, plan.runners),
            restart=Restart.TRANSIENT,
            stop_within_s=plan.runners.patience_s + 2.0,
        )

    def _lead_to(self, instance: Instance) -> None:
        mesh = self._bus.mesh
        if mesh is not None:
            bound = self._plan.runners.max_sequences
            start = partial(Door.start, instance, mesh, self._directory, bound)
            self.supervise(Child(names.door(instance.id, instance.epoch), start, restart=Restart.TRANSIENT))
