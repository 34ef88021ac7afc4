"""Which instance of a model takes a request: ready, and with its beginning kept or least loaded. Pure."""

from collections.abc import Iterable, Mapping, Sequence
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


MUCH_BUSIER: Final = 4
"""Sequences that an instance may have under way beyond the least loaded one's, at most, and still be
preferred for what it has kept. Each mark of the trail is worth one: a system prompt in common is no reason to
stand in a line, a long conversation is one, and nobody waits behind many for what is soon computed."""


def route(
    model: ModelId,
    declared: Iterable[DeclaredFact],
    facts: Mapping[str, Fact],
    trail: tuple[int, ...] = (),
) -> Serving | NotServed:
    """Where a request for `model` goes now, whose prompt begins as `trail` says (`bus.trail`)."""
    held = [fact for fact in declared if fact.instance.model == model and not fact.withdrawn]
    if not held:
        return NotServed(_nobody(model), unplaced=True)
    placed = [fact for fact in held if fact.instance.stages]
    best = min(placed, key=lambda fact: (fact.given_up, *_rank(fact.instance, facts)), default=None)
    if best is None:
        return NotServed(_no_room(held[0]))
    if best.given_up:
        return NotServed(_given_up(best))
    ready = [fact.instance for fact in placed if not fact.given_up and _rank(fact.instance, facts)[0] == 0]
    chosen = _most_kept(trail, ready, facts) if ready and trail else best.instance
    return Serving(instance=chosen.id, epoch=chosen.epoch)


def _most_kept(trail: tuple[int, ...], ready: Sequence[Instance], facts: Mapping[str, Fact]) -> Instance:
    """Of those that are ready, who has kept most, unless the least loaded one is much less busy."""
    states = {each: fact for each in ready if (fact := whole(each, facts)) is not None}
    kept = {each: shared(trail, set(fact.trails)) for each, fact in states.items()}
    loads = {each: _load(fact) for each, fact in states.items()}
    least = min(loads.values())
    near = [each for each in states if loads[each] - least <= min(kept[each], MUCH_BUSIER)]
    return min(near, key=lambda each: (-kept[each], loads[each], each.id))


def whole(instance: Instance, facts: Mapping[str, Fact]) -> InstanceFact | None:
    """What rank 0 of that very placement says."""
    fact = facts.get(f"instance/{instance.id}/{instance.epoch}")
    return fact if isinstance(fact, InstanceFact) and fact.nodes == instance.nodes else None


def has_failed_alone(serving: Serving, facts: Mapping[str, Fact]) -> bool:
    """Whether who goes there is refused, unless its files have changed: with other ranks, more is tried."""
    fact = facts.get(f"instance/{serving.instance}/{serving.epoch}")
    return isinstance(fact, InstanceFact) and fact.phase is Phase.FAILED and len(fact.nodes) == 1


def _rank(instance: Instance, facts: Mapping[str, Fact]) -> tuple[int, int, InstanceId]:
    fact = whole(instance, facts)
    if fact is None:  # it has just been declared
        return len(_SOON), 0, instance.id
    if fact.phase not in _SOON:
        return len(_SOON) + 1, 0, instance.id
    return _SOON.index(fact.phase), _load(fact), instance.id


def _load(fact: InstanceFact) -> int:
    """Sequences that it has under way."""
    return fact.running + fact.prefilling + fact.waiting


def _nobody(model: ModelId) -> Refusal:
    return Refusal(
        RefusalCode.MODEL_NOT_FOUND,
        f"model '{model}' is not placed, and this node does not place what is asked for (--no-auto-place):"
        " POST /v1/instances places it",
        param="model",
    )


def _no_room(fact: DeclaredFact) -> Refusal:
    message = f"model '{fact.instance.model}' has no place: {fact.reason}"
    return Refusal(RefusalCode.DOES_NOT_FIT, message, retry_after_s=5.0)


def _given_up(fact: DeclaredFact) -> Refusal:
    return Refusal(RefusalCode.ENGINE_FAILED, f"model '{fact.instance.model}' can't be served: {fact.reason}")
