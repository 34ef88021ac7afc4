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
    """All ways to place a wish on these nodes. `models`: the copies of its model and of its draft model, and
    perhaps of others; `held`: bytes that models hold on each node now."""
    copies = [fact for fact in models if fact.id == wish.model]
    drafts = [fact for fact in models if fact.id == wish.draft]
    return plan(wish, copies, nodes, promised, held=held, draft_facts=drafts)


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
        kv_bits=instance.kv_bits,
        draft=instance.draft,
    )


def unknown(model: ModelId) -> Refusal:
    """Nobody has that model."""
    return Refusal(
        RefusalCode.MODEL_NOT_FOUND,
        f"model '{model}' is not here: GET /v1/models lists what is; copy its folder into a models directory",
        param="model",
    )
