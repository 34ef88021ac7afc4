"""Which instance of a model takes a request: ready, and with its beginning kept or least loaded. Pure."""

from collections.abc import Iterable, Mapping
from typing import Final

from bus.messages.base import InstanceId, ModelId
from bus.messages.engine import Phase
from bus.messages.facts import DeclaredFact, Fact, InstanceFact
from bus.messages.generation import Refusal, RefusalCode
from bus.messages.placement import Instance, NotServed, Serving
from bus.trail import shared

_SOON: Final = (
    Phase.READY,
    Phase.WARMING,
    Phase.LOADING,
    Phase.CONNECTING,
    Phase.DOWNLOADING,
    Phase.WAITING,
)
"""In order of how soon a request gets its first token there."""


NONE: Final[Mapping[InstanceId, int]] = {}

MUCH_BUSIER: Final = 4
"""Sequences that an instance may have under way beyond the least loaded one's, at most, and still be
preferred for what it has kept. Each mark of the trail is worth one: a system prompt in common is no reason to
stand in a line, a long conversation is one, and nobody waits behind many for what is soon computed."""


def route(
    model: ModelId,
    declared: Iterable[DeclaredFact],
    facts: Mapping[str, Fact],
    trail: tuple[int, ...] = (),
    recent: Mapping[InstanceId, int] = NONE,
) -> Serving | NotServed:
    """Where a request for `model` goes now, whose prompt begins as `trail` says (`bus.trail`).

    `recent`: what was sent to each instance that its fact does not tell of yet.
    """
    held = [fact for fact in declared if fact.instance.model == model and not fact.withdrawn]
    if not held:
        return NotServed(_nobody(model), unplaced=True)
    placed = [fact for fact in held if fact.instance.stages]
    if not placed:
        return NotServed(_no_room(held[0]))
    hopeful = [fact.instance for fact in placed if not fact.given_up]
    if not hopeful:
        return NotServed(_given_up(placed[0]))
    ranks = {instance: _rank(instance, facts, recent) for instance in hopeful}
    loads = {each: load for each, (phase, load, _) in ranks.items() if phase == _SOON.index(Phase.READY)}
    chosen = _most_kept(trail, loads, facts) if loads and trail else min(hopeful, key=ranks.__getitem__)
    return Serving(instance=chosen.id, epoch=chosen.epoch)


def _most_kept(trail: tuple[int, ...], loads: Mapping[Instance, int], facts: Mapping[str, Fact]) -> Instance:
    """Of those that are ready, who has kept most, unless the least loaded one is much less busy."""
    kept = {each: shared(trail, set(fact.trails)) for each in loads if (fact := whole(each, facts))}
    least = min(loads.values())
    near = [each for each in kept if loads[each] - least <= min(kept[each], MUCH_BUSIER)]
    return min(near, key=lambda each: (-kept[each], loads[each], each.id))


def whole(instance: Instance, facts: Mapping[str, Fact]) -> InstanceFact | None:
    """What rank 0 of that very placement says."""
    fact = facts.get(f"instance/{instance.id}/{instance.epoch}")
    return fact if isinstance(fact, InstanceFact) and fact.nodes == instance.nodes else None


def has_failed_alone(serving: Serving, facts: Mapping[str, Fact]) -> bool:
    """Whether who goes there is refused, unless its files have changed: with other ranks, more is tried."""
    fact = facts.get(f"instance/{serving.instance}/{serving.epoch}")
    return isinstance(fact, InstanceFact) and fact.phase is Phase.FAILED and len(fact.nodes) == 1


def _rank(
    instance: Instance, facts: Mapping[str, Fact], recent: Mapping[InstanceId, int]
) -> tuple[int, int, InstanceId]:
    """How far it is from taking a request, and how many sequences it has under way."""
    fact = whole(instance, facts)
    if fact is None:  # it has just been declared
        return len(_SOON), 0, instance.id
    if fact.phase not in _SOON:
        return len(_SOON) + 1, 0, instance.id
    load = fact.running + fact.prefilling + fact.waiting + recent.get(instance.id, 0)
    return _SOON.index(fact.phase), load, instance.id


def _nobody(model: ModelId) -> Refusal:
    return Refusal(
        RefusalCode.MODEL_NOT_FOUND,
        f"model '{model}' is not placed, and this node does not place what is asked for (--no-auto-place):"
        " POST /v1/instances places it",
        param="model",
    )


def _no_room(fact: DeclaredFact) -> Refusal:
    message = f"model '{fact.instance.model}': {fact.reason}"
    return Refusal(RefusalCode.DOES_NOT_FIT, message, retry_after_s=5.0)


def _given_up(fact: DeclaredFact) -> Refusal:
    return Refusal(RefusalCode.ENGINE_FAILED, f"model '{fact.instance.model}' can't be served: {fact.reason}")
