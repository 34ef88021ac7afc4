"""Which instance of a model takes a request: one that is ready if there is one, the least loaded. Pure."""

from collections.abc import Iterable, Mapping
from typing import Final

from bus.messages.base import InstanceId, ModelId
from bus.messages.engine import Phase
from bus.messages.facts import DeclaredFact, Fact, InstanceFact
from bus.messages.generation import Refusal, RefusalCode
from bus.messages.placement import Instance, NotServed, Serving

_SOON: Final = (
    Phase.READY,
    Phase.WARMING,
    Phase.LOADING,
    Phase.CONNECTING,
    Phase.DOWNLOADING,
    Phase.WAITING,
)
"""In order of how soon a request gets its first token there."""


def route(model: ModelId, declared: Iterable[DeclaredFact], facts: Mapping[str, Fact]) -> Serving | NotServed:
    """Where a request for `model` goes now."""
    held = [fact for fact in declared if fact.instance.model == model and not fact.withdrawn]
    if not held:
        return NotServed(_nobody(model), unplaced=True)
    placed = [fact for fact in held if fact.instance.stages]
    best = min(placed, key=lambda fact: (fact.given_up, *_rank(fact.instance, facts)), default=None)
    if best is None:
        return NotServed(_no_room(held[0]))
    if best.given_up:
        return NotServed(_given_up(best))
    return Serving(instance=best.instance.id, epoch=best.instance.epoch)


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
    return _SOON.index(fact.phase), fact.running + fact.prefilling + fact.waiting, instance.id


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
