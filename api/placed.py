"""What is placed, as one object per instance: from what is declared and what its ranks say. Pure."""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from actors.coordination.register import precedence
from actors.planner.machines import names_of
from bus.messages.base import InstanceId, ModelId, NodeId
from bus.messages.engine import Phase
from bus.messages.facts import DeclaredFact, Fact, InstanceFact, NodeFact, RankFact
from bus.messages.placement import Choice, Instance, Interconnect, Sharding, Stage, Wish

UNHEARD = "its first rank has not said anything yet"


class StageBody(Struct, frozen=True):
    """Some layers and who has them."""

    first: int
    end: int
    nodes: tuple[NodeId, ...]
    names: tuple[str, ...]
    needed_bytes: int


class RankBody(Struct, frozen=True):
    """One rank's state, as its node tells it."""

    rank: int
    node: NodeId
    name: str
    stage: int
    phase: Phase
    reason: str
    progress: float | None = None
    active_bytes: int = 0
    kv_bytes: int = 0


class SuccessorBody(Struct, frozen=True):
    """The epoch that is made ready to take over."""

    epoch: int
    stages: tuple[StageBody, ...]
    phase: Phase
    reason: str
    progress: float | None = None


class InstanceBody(Struct, frozen=True, kw_only=True):
    """A placed model: what was declared, how it is, and how each of its ranks is."""

    id: InstanceId
    object: str = "instance"
    model: ModelId
    epoch: int
    sharding: Sharding
    interconnect: Interconnect
    context: int | None
    stages: tuple[StageBody, ...]
    phase: Phase
    reason: str
    since: float | None
    """When its phase began, seconds since 1970; None: nobody has said so yet."""
    progress: float | None
    wish: Wish | None
    given_up: bool
    restarts: int
    running: int
    prefilling: int
    waiting: int
    kv_bits: int | None
    """The KV cache is kept with so many bits; None: as it is computed."""
    kv_bytes: int
    kv_limit_bytes: int
    """What the KV cache may take at most on its first rank; 0: not bounded."""
    prefix_bytes: int
    """Of kv_bytes: kept for prompts that begin the same."""
    prompt_tokens: int
    """Of all prompts since its engine's start, and so are the next four."""
    cached_tokens: int
    """Of those, what had not to be computed."""
    draft: ModelId | None
    speculate: bool
    drafted_tokens: int
    accepted_tokens: int
    preempted: int
    active_bytes: int
    tokens_per_s: float
    ranks: tuple[RankBody, ...]
    successor: SuccessorBody | None


class ChoiceBody(Struct, frozen=True):
    """One way to place a model."""

    object: str
    sharding: Sharding
    interconnect: Interconnect
    context: int
    stages: tuple[StageBody, ...]
    score: float
    """Tokens per second that are expected of one stream."""
    why: str


class Placed:
    """One look at the facts."""

    def __init__(self, facts: Mapping[str, Fact]) -> None:
        values = tuple(facts.values())
        self._names = names_of([fact for fact in values if isinstance(fact, NodeFact)])
        self._said = {(fact.id, fact.epoch): fact for fact in values if isinstance(fact, InstanceFact)}
        self._ranks = {
            (fact.instance, fact.epoch, fact.rank): fact for fact in values if isinstance(fact, RankFact)
        }
        self._declared = _latest(fact for fact in values if isinstance(fact, DeclaredFact))

    def instances(self) -> tuple[InstanceBody, ...]:
        """All of them, by model and id; one that is withdrawn for as long as something of it runs."""
        wanted = {name for name, fact in self._declared.items() if not fact.withdrawn}
        names = wanted | {name for name, _ in self._said}
        return tuple(sorted(map(self._body, names), key=lambda body: (body.model, body.id)))

    def facts(self) -> tuple[InstanceFact, ...]:
        """What is said of each instance's present epoch, by id; none of those that say nothing yet."""
        names = sorted({name for name, _ in self._said})
        return tuple(fact for name in names if (fact := self._fact(name)) is not None)

    def created(self, instance: Instance) -> InstanceBody:
        """One that was declared this moment: its facts may still be on their way."""
        declared = self._declared.get(instance.id)
        return self._body_of(instance, declared, self._fact(instance.id))

    def choice(self, choice: Choice) -> ChoiceBody:
        """A choice, with the names of its nodes."""
        return ChoiceBody(
            "instance.choice",
            choice.sharding,
            choice.interconnect,
            choice.context,
            self._stages(choice.stages),
            choice.score,
            choice.why,
        )

    def _fact(self, name: InstanceId) -> InstanceFact | None:
        """Of the epoch that is declared; of one that nobody declares any more, of its last epoch."""
        declared = self._declared.get(name)
        if declared is not None and not declared.withdrawn:
            return self._said.get((name, declared.instance.epoch))
        epochs = [epoch for said, epoch in self._said if said == name]
        return self._said[name, max(epochs)] if epochs else None

    def _body(self, name: InstanceId) -> InstanceBody:
        fact, declared = self._fact(name), self._declared.get(name)
        if declared is not None:
            return self._body_of(declared.instance, declared, fact)
        assert fact is not None
        return self._body_of(_as_declared(fact), None, fact)

    def _body_of(
        self, instance: Instance, declared: DeclaredFact | None, fact: InstanceFact | None
    ) -> InstanceBody:
        successor = declared.successor if declared is not None else None
        said = fact or _unheard(instance, declared)
        return InstanceBody(
            id=instance.id,
            model=instance.model,
            epoch=said.epoch,
            sharding=instance.sharding,
            interconnect=instance.interconnect,
            context=said.context if said.context is not None else instance.context or None,
            stages=self._stages(instance.stages),
            phase=said.phase,
            reason=said.reason,
            since=said.since or None,
            progress=said.progress,
            wish=instance.wish,
            given_up=declared is not None and declared.given_up,
            restarts=said.restarts,
            running=said.running,
            prefilling=said.prefilling,
            waiting=said.waiting,
            kv_bits=instance.kv_bits if fact is None else fact.kv_bits,
            kv_bytes=said.kv_bytes,
            kv_limit_bytes=said.kv_limit_bytes,
            prefix_bytes=said.prefix_bytes,
            prompt_tokens=said.prompt_tokens,
            cached_tokens=said.cached_tokens,
            draft=instance.draft if fact is None else fact.draft,
            speculate=instance.speculate,
            drafted_tokens=said.drafted_tokens,
            accepted_tokens=said.accepted_tokens,
            preempted=said.preempted,
            active_bytes=said.active_bytes,
            tokens_per_s=said.tokens_per_s,
            ranks=tuple(self._rank(instance, rank, said) for rank in range(len(instance.nodes))),
            successor=self._successor(successor) if successor is not None else None,
        )

    def _rank(self, instance: Instance, rank: int, said: InstanceFact) -> RankBody:
        node = instance.nodes[rank]
        name, stage = self._names.get(node, node), rank // instance.tensor
        fact = self._ranks.get((instance.id, said.epoch, rank))
        if fact is not None:
            holds = (fact.active_bytes, fact.kv_bytes)
            return RankBody(rank, node, name, stage, fact.phase, fact.reason, fact.progress, *holds)
        if len(instance.nodes) == 1:  # the instance's own fact is all that there is to say of it
            holds = (said.active_bytes, said.kv_bytes)
            return RankBody(rank, node, name, stage, said.phase, said.reason, said.progress, *holds)
        return RankBody(rank, node, name, stage, Phase.WAITING, "it has not said anything yet")

    def _successor(self, instance: Instance) -> SuccessorBody:
        said = self._said.get((instance.id, instance.epoch)) or _unheard(instance, None)
        stages = self._stages(instance.stages)
        return SuccessorBody(instance.epoch, stages, said.phase, said.reason, said.progress)

    def _stages(self, stages: tuple[Stage, ...]) -> tuple[StageBody, ...]:
        return tuple(
            StageBody(
                stage.first,
                stage.end,
                stage.nodes,
                tuple(self._names.get(node, node) for node in stage.nodes),
                stage.needed_bytes,
            )
            for stage in stages
        )


def _latest(facts: Iterable[DeclaredFact]) -> dict[InstanceId, DeclaredFact]:
    """The declaration of each instance that counts, whoever repeats it."""
    latest: dict[InstanceId, DeclaredFact] = {}
    for fact in facts:
        known = latest.get(fact.instance.id)
        if known is None or precedence(fact) > precedence(known):
            latest[fact.instance.id] = fact
    return latest


def _as_declared(fact: InstanceFact) -> Instance:
    """An instance that runs and whose declaration is not known here."""
    return Instance(
        id=fact.id,
        epoch=fact.epoch,
        model=fact.model,
        stages=fact.stages,
        context=fact.context or 0,
        sharding=fact.sharding,
        interconnect=fact.interconnect,
        kv_bits=fact.kv_bits,
        draft=fact.draft,
    )


def _unheard(instance: Instance, declared: DeclaredFact | None) -> InstanceFact:
    """What there is to say of a declared instance that has said nothing itself."""
    return InstanceFact(
        id=instance.id,
        epoch=instance.epoch,
        model=instance.model,
        nodes=instance.nodes,
        phase=Phase.WAITING,
        reason=(declared.reason if declared is not None else "") or UNHEARD,
        since=declared.at if declared is not None else 0.0,
    )
