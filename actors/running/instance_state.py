"""How an instance is: its phase and reason, what its engine holds, and how often it had to be started."""

import time
from dataclasses import dataclass, field

from actors.messages import InstanceChanged
from actors.running.desk import engine_lost
from bus.messages.base import NodeId
from bus.messages.engine import Beat, Bound, Phase, PhaseChange
from bus.messages.facts import InstanceFact, RankFact
from bus.messages.generation import Refusal, RefusalCode
from bus.messages.placement import Instance

IDLE = Beat(steps=0)


@dataclass(slots=True)
class InstanceState:
    """What a Runner knows of its instance, and the fact that it publishes of it."""

    instance: Instance
    node: NodeId
    change: PhaseChange = field(
        default_factory=lambda: PhaseChange(phase=Phase.WAITING, reason="about to start the engine")
    )
    since: float = field(default_factory=time.time)
    """When this phase began, seconds since 1970."""
    beat: Beat = IDLE
    context: int | None = None
    failures: int = 0
    """Engines that ended by themselves, since the last one that held."""
    bound: Bound | None = None
    """Where the engine listens for other ranks."""
    permanent: bool = False
    """With `failed`: the fault is the model's or this machine's, and will come again."""
    kv_budget_bytes: int = 0
    """What this node has for its KV cache; 0: not known yet."""
    without: str = ""
    """What it has to do without, for a person to read."""

    @property
    def rank(self) -> int:
        """Which of the instance's ranks this node has."""
        return self.instance.nodes.index(self.node)

    @property
    def alone(self) -> bool:
        """The instance has this one rank only."""
        return len(self.instance.nodes) == 1

    @property
    def phase(self) -> Phase:
        """Where it is in its life."""
        return self.change.phase

    @property
    def key(self) -> str:
        """Of the instance's fact, which its rank 0 tells."""
        return f"instance/{self.instance.id}/{self.instance.epoch}"

    @property
    def rank_key(self) -> str:
        """Of this rank's fact."""
        return rank_key(self.instance, self.rank)

    def enter(self, change: PhaseChange) -> bool:
        """Go on; true when this is another phase."""
        new = change.phase is not self.change.phase
        if new:
            self.since = time.time()
        self.change = change
        self.context = change.context or self.context
        return new

    def held_for_s(self) -> float:
        """How long it has been ready; 0 if it is not."""
        return time.time() - self.since if self.phase is Phase.READY else 0.0

    def changed(self) -> InstanceChanged:
        """What Placement and waiting requests are told."""
        change = self.change
        return InstanceChanged(self.instance.id, change.phase, change.reason, change.progress)

    def refusal(self) -> Refusal | None:
        """Why nothing is taken on now; None: it is."""
        match self.phase:
            case Phase.FAILED:
                return self.failure(self.change.reason)
            case Phase.DRAINING | Phase.STOPPED:
                return engine_lost("the instance is being stopped")
            case _:
                return None

    def failure(self, reason: str) -> Refusal:
        """A fault that will come again ends a request, unless other ranks or nodes may do better."""
        if self.permanent and self.alone:
            return Refusal(RefusalCode.ENGINE_FAILED, reason)
        return engine_lost(reason)

    def fact(self) -> InstanceFact:
        """What everybody is told."""
        instance, beat = self.instance, self.beat
        return InstanceFact(
            id=instance.id,
            epoch=instance.epoch,
            model=instance.model,
            nodes=instance.nodes,
            phase=self.phase,
            reason="; ".join(filter(None, (self.change.reason, self.without))),
            since=self.since,
            progress=self.change.progress,
            sharding=instance.sharding,
            interconnect=instance.interconnect,
            context=self.context or instance.context,
            restarts=self.failures,
            running=beat.running,
            prefilling=beat.prefilling,
            waiting=beat.waiting,
            kv_bytes=beat.kv_bytes,
            active_bytes=beat.active_bytes,
            cached_bytes=beat.cached_bytes,
            tokens_per_s=beat.tokens_per_s,
            stages=instance.stages,
            kv_limit_bytes=beat.kv_limit_bytes,
            prefix_bytes=beat.prefix_bytes,
            prompt_tokens=beat.prompt_tokens,
            cached_tokens=beat.cached_tokens,
            drafted_tokens=beat.drafted_tokens,
            accepted_tokens=beat.accepted_tokens,
            preempted=beat.preempted,
            trails=beat.trails,
            kv_bits=instance.kv_bits,
            draft=None if self.without else instance.draft,
        )

    def rank_fact(self) -> RankFact:
        """What the other ranks and the coordinator are told."""
        return RankFact(
            instance=self.instance.id,
            epoch=self.instance.epoch,
            rank=self.rank,
            node=self.node,
            phase=self.phase,
            reason=self.change.reason,
            progress=self.change.progress,
            hop=self.bound.hop if self.bound else "",
            ring=self.bound.ring if self.bound else "",
            permanent=self.permanent,
            active_bytes=self.beat.active_bytes,
            kv_bytes=self.beat.kv_bytes,
            kv_budget_bytes=self.kv_budget_bytes,
            kept=self.bound.kept if self.bound else "",
            cached_bytes=self.beat.cached_bytes,
            prefix_bytes=self.beat.prefix_bytes,
        )


def rank_key(instance: Instance, rank: int) -> str:
    """Of a rank's fact. Two halves of a cluster may each place the same epoch, on other nodes."""
    return f"rank/{instance.id}/{instance.epoch}/{rank}/{instance.nodes[rank]}"
