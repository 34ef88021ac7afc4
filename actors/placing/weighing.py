"""What can be said of a wish before anything is declared: how it could be placed, and what is shown of it."""

from collections.abc import Mapping, Sequence

from actors.planner.plan import plan
from bus.messages.base import ModelId, NodeId
from bus.messages.engine import Phase
from bus.messages.facts import DeclaredFact, InstanceFact, ModelFact, NodeFact
from bus.messages.generation import Refusal, RefusalCode
from bus.messages.placement import Previews, Wish


def weigh(
    wish: Wish,
    models: Sequence[ModelFact],
    nodes: Sequence[NodeFact],
    promised: Mapping[NodeId, int],
    *,
    held: Mapping[NodeId, int],
) -> Previews:
    """All ways to place a wish on these nodes; `held`: bytes that models hold on each node now."""
    return plan(wish, [fact for fact in models if fact.id == wish.model], nodes, promised, held=held)


def unplaced(declared: DeclaredFact) -> InstanceFact:
    """How an instance is shown that has no place, and so no rank 0 that could speak for it."""
    instance = declared.instance
    return InstanceFact(
        id=instance.id,
        epoch=instance.epoch,
        model=instance.model,
        nodes=(),
        phase=Phase.FAILED if declared.given_up else Phase.WAITING,
        reason=declared.reason,
        since=declared.at,
    )


def unknown(model: ModelId) -> Refusal:
    """Nobody has that model."""
    return Refusal(
        RefusalCode.MODEL_NOT_FOUND,
        f"model '{model}' is not here: GET /v1/models lists what is; copy its folder into a models directory",
        param="model",
    )
