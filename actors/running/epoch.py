"""A Runner's view of the epoch that it is part of: follows the other ranks' facts, and tells its own."""

from collections.abc import Callable

from actors.messages import RankTold
from actors.running.allowance import Allowance
from actors.running.files import Files, kept_name
from actors.running.instance_state import InstanceState, rank_key
from actors.running.ranks import Ranks
from actors.running.rdma_matrix import Matrix, device_matrix
from actors.running.runner_settings import RunnerSettings
from bus.bus import Bus
from bus.messages.base import NodeId
from bus.messages.engine import Connect, Load, Part
from bus.messages.facts import Fact, NodeFact, RankFact
from bus.messages.placement import Interconnect

LOOPBACK = "127.0.0.1"


class Epoch:
    """To be used on the loop's thread only. Where the instance has one rank, there is nothing to follow."""

    def __init__(
        self, state: InstanceState, bus: Bus, settings: RunnerSettings, told: Callable[[RankTold], object]
    ) -> None:
        self._state, self._bus, self._settings, self._told = state, bus, settings, told
        ranks = range(len(state.instance.nodes))
        self._others = {rank_key(state.instance, rank): rank for rank in ranks if rank != state.rank}
        self._unlisten: Callable[[], None] | None = None
        # Whoever is lost takes its own fact along, and is still called by its name.
        self._names = {node: self._name_of(node) for node in state.instance.nodes}
        self.ranks = Ranks(state.instance, state.rank, self._names.__getitem__)
        self.allowance = Allowance(state, self.ranks, bus.view, settings.kv_memory)
        self.connected = False
        """The engine was told where the others listen."""

    def follow(self) -> None:
        """Have every word of the other ranks told, those that are known already too."""
        if self._state.alone:
            return
        self._unlisten = self._bus.view.listen(self._hear)
        for key, fact in self._bus.view.facts().items():
            self._hear(key, fact)

    def load(self, files: Files, now: float, *, hurry: bool) -> Load:
        """What this rank's engine is told to load; `now` in monotonic seconds."""
        instance, settings = self._state.instance, self._settings
        kept_in = settings.prefixes_dir if settings.prefixes else None
        return Load(
            path=files.model,
            context=instance.context,
            max_running=settings.max_running,
            pace_s=settings.pace_s,
            part=self.part(),
            hurry=hurry,
            budget=self.allowance.first(now),
            kv_bits=instance.kv_bits,
            prefixes=settings.prefixes,
            prefixes_path=str(kept_in / kept_name(instance)) if kept_in is not None else "",
            prefixes_disk_bytes=settings.prefixes_disk_bytes,
            speculate=settings.speculate and instance.speculate,
            draft_path=files.draft,
        )

    def part(self) -> Part | None:
        """What this rank's engine computes; None: all of it."""
        instance = self._state.instance
        if self._state.alone:
            return None
        return Part(
            rank=self._state.rank,
            layers=tuple((stage.first, stage.end) for stage in instance.stages),
            tensor=instance.tensor,
            interconnect=instance.interconnect,
            listen=self._bus.mesh.host if self._bus.mesh is not None else LOOPBACK,
        )

    def connect(self) -> Connect | None:
        """What the engine is to be told now that all ranks listen; once."""
        told = None if self.connected else self.ranks.connect()
        if told is None:
            return None
        self.connected = True
        nodes = self._state.instance.nodes
        return Connect(
            hops=tuple(self._as_reached(node, hop) for node, hop in zip(nodes, told.hops, strict=True)),
            rings=tuple(self._as_reached(node, ring) for node, ring in zip(nodes, told.rings, strict=False)),
            devices=self._devices(),
            kv_bytes=told.kv_bytes,
            kept=told.kept,
        )

    def _devices(self) -> Matrix:
        """For jaccl; where there is no matrix, the engine is told none, and says so."""
        instance = self._state.instance
        if instance.interconnect is not Interconnect.JACCL:
            return ()
        facts = self._bus.view.facts()
        known = (facts.get(f"node/{node}") for node in instance.nodes)
        matrix = device_matrix([fact.rdma_devices if isinstance(fact, NodeFact) else () for fact in known])
        return () if isinstance(matrix, str) else matrix

    def _as_reached(self, node: NodeId, endpoint: str) -> str:
        """Where a rank listens, by the address at which this node reaches that one."""
        member = self._bus.mesh.members.get(node) if self._bus.mesh is not None else None
        if member is None:  # its own
            return endpoint
        scheme, slashes, listens = endpoint.rpartition("//")
        host, port = member.address.rpartition(":")[0], listens.rpartition(":")[2]
        return f"{scheme}{slashes}{host}:{port}"

    def publish(self) -> None:
        """Tell how this rank is and, if it is the first, how the instance is."""
        state = self._state
        if state.rank == 0:
            self._bus.publish(state.key, state.fact())
        if not state.alone:
            fact = state.rank_fact()
            self.ranks.tell(state.rank, fact)
            self._bus.publish(state.rank_key, fact)

    def withdraw(self) -> None:
        """This rank is no more."""
        if self._unlisten is not None:
            self._unlisten()
            self._unlisten = None
        if self._state.rank == 0:
            self._bus.withdraw(self._state.key)
        if not self._state.alone:
            self._bus.withdraw(self._state.rank_key)

    def _hear(self, key: str, fact: Fact | None) -> None:
        rank = self._others.get(key)
        if rank is not None:
            self._told(RankTold(rank, fact if isinstance(fact, RankFact) else None))

    def _name_of(self, node: NodeId) -> str:
        fact = self._bus.view.facts().get(f"node/{node}")
        return fact.name if isinstance(fact, NodeFact) else node
