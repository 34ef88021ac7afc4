"""Which engines share a node's memory, read off the facts: what is declared there, or still runs. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from actors.coordination.register import Register
from actors.coordination.sight import LOADED, OVER
from actors.planner.memory import Needs, shortened
from actors.running.budget import Engine, Key, shares
from bus.messages.base import ModelId, NodeId
from bus.messages.facts import DeclaredFact, Fact, InstanceFact, ModelFact, NodeFact, RankFact, Shape
from bus.messages.placement import Instance, Stage


@dataclass(frozen=True, slots=True)
class _Part:
    """A node's part of an epoch of an instance."""

    model: ModelId
    stage: Stage
    context: int | None
    """None: what its stage is reckoned to need says it; what it shows may be less."""
    kv_bits: int | None
    draft: ModelId | None
    cap: int | None = None


def engines_on(node: NodeId, facts: Mapping[str, Fact], own: Instance) -> tuple[Engine, ...]:
    """All of them, `own` among them whatever the facts say; in a fixed order."""
    parts = _still_there(node, facts) | _declared(node, facts)
    told = dict(_told(node, facts))
    # An engine that failed takes nothing, though it stays declared: another try is another epoch.
    parts = {key: part for key, part in parts.items() if key not in told or told[key].phase not in OVER}
    parts |= _part(node, own)
    return tuple(_engine(node, key, parts[key], told.get(key), facts) for key in sorted(parts))


def fitting_context(own: Instance, facts: Mapping[str, Fact]) -> int | None:
    """How many tokens of an instance's context fit into what its nodes may hold of KV cache, others' beside
    it; None: a person set no limit on any of them."""
    fitting: list[int] = []
    for node in own.nodes:
        fact = facts.get(f"node/{node}")
        if isinstance(fact, NodeFact) and fact.kv_memory_bytes is not None:
            engines = engines_on(node, facts, own)
            (engine,) = (each for each in engines if each.key == (own.id, own.epoch))
            granted = shares(fact.kv_memory_bytes, engines)[engine.key]
            fitting.append(max(1, shortened(own.context, engine.context_bytes, granted)))
    return min(fitting, default=None)


def _declared(node: NodeId, facts: Mapping[str, Fact]) -> dict[Key, _Part]:
    """What is to run here. Several nodes may say something of an instance: the register knows what counts."""
    register = Register(fact for fact in facts.values() if isinstance(fact, DeclaredFact))
    parts: dict[Key, _Part] = {}
    for fact in register.declared.values():
        for instance in (fact.instance, fact.successor):
            if instance is not None and not fact.withdrawn:
                parts |= _part(node, instance)
    return parts


def _part(node: NodeId, instance: Instance) -> dict[Key, _Part]:
    stage = _stage_of(node, instance.stages)
    if stage is None:
        return {}
    part = _Part(
        model=instance.model,
        stage=stage,
        context=instance.context,
        kv_bits=instance.kv_bits,
        draft=instance.draft,
        cap=instance.kv_bytes,
    )
    return {(instance.id, instance.epoch): part}


def _still_there(node: NodeId, facts: Mapping[str, Fact]) -> dict[Key, _Part]:
    """What runs here, also where it is withdrawn and its requests may end."""
    parts: dict[Key, _Part] = {}
    for fact in facts.values():
        if not isinstance(fact, InstanceFact) or fact.phase in OVER:
            continue
        stage = _stage_of(node, fact.stages)
        if stage is not None:
            parts[fact.id, fact.epoch] = _Part(fact.model, stage, None, fact.kv_bits, fact.draft)
    return parts


def _stage_of(node: NodeId, stages: Iterable[Stage]) -> Stage | None:
    return next((stage for stage in stages if node in stage.nodes), None)


def _told(node: NodeId, facts: Mapping[str, Fact]) -> Iterator[tuple[Key, InstanceFact | RankFact]]:
    """What each engine here says of itself."""
    for fact in facts.values():
        match fact:
            case InstanceFact(nodes=(alone,)) if alone == node:
                yield (fact.id, fact.epoch), fact
            case RankFact(node=there) if there == node:
                yield (fact.instance, fact.epoch), fact
            case _:
                pass


def _engine(
    node: NodeId, key: Key, part: _Part, told: InstanceFact | RankFact | None, facts: Mapping[str, Fact]
) -> Engine:
    stage, shape = part.stage, _shape(node, part.model, facts)
    fixed, context = stage.needed_bytes, 0
    if shape is not None and stage.end <= len(shape.layer_bytes):
        draft = _shape(node, part.draft, facts) if part.draft is not None else None
        fixed, context = _needed(part.context or 0, stage, part.kv_bits, shape, draft)
        if part.context is None:
            context = max(0, stage.needed_bytes - fixed)
    if told is None or told.phase in OVER:
        return Engine(key, fixed, context, cap=part.cap)
    return Engine(
        key,
        fixed,
        context,
        active_bytes=told.active_bytes,
        kv_bytes=told.kv_bytes,
        cached_bytes=told.cached_bytes,
        loaded=told.phase in LOADED,
        cap=part.cap,
    )


@lru_cache(maxsize=64)  # asked again at every look, for the same few
def _needed(
    context: int, stage: Stage, kv_bits: int | None, shape: Shape, draft: Shape | None
) -> tuple[int, int]:
    """What an engine takes beside KV cache, and of that for one whole context."""
    needs = Needs(shape, context, len(stage.nodes), kv_bits, draft)
    return needs.fixed(stage.first, stage.end), needs.cache(stage.first, stage.end)


def _shape(node: NodeId, model: ModelId, facts: Mapping[str, Fact]) -> Shape | None:
    fact = facts.get(f"model/{node}/{model}")
    return fact.shape if isinstance(fact, ModelFact) else None
