"""What people and requests ask of the coordinator: to have a model placed, or an instance gone."""

from dataclasses import replace
from itertools import count

from actors.coordination.draft import Draft, placed, tried
from actors.coordination.losses import WAIT_LOOK_S
from bus.messages.base import InstanceId, ModelId
from bus.messages.placement import Create, Created, Instance, ToCoordinator, Withdraw


def carry_out(draft: Draft, order: ToCoordinator) -> Created:
    """Do as asked, and say what is declared for it now."""
    match order:
        case Create():
            return Created(instances=_create(draft, order))
        case Withdraw(instance=id):
            _withdraw(draft, id)
            return Created(instances=())


def _create(draft: Draft, order: Create) -> tuple[Instance, ...]:
    if order.once:
        wanted = order.wish.model
        there = tuple(fact.instance for fact in draft.current() if fact.instance.model == wanted)
        return there or (_declare(draft, order),)
    return tuple(_declare(draft, order) for _ in range(max(1, order.replicas)))


def _declare(draft: Draft, order: Create) -> Instance:
    wish = order.wish
    instance = Instance(
        id=draft.state.new_id(),
        epoch=1,
        model=wish.model,
        stages=(),
        context=wish.context or 0,
        # What is wanted once is wanted by no person in particular: another one like it would be one too many.
        wish=None if order.once else wish,
        kv_bits=wish.kv_bits,
        kv_bytes=wish.kv_bytes,
        draft=wish.draft,
        speculate=wish.speculate,
        ordinal=_free_ordinal(draft, wish.model),
    )
    choice = draft.choose(wish)
    if isinstance(choice, str):
        draft.declare(instance, f"waits for a place: {choice}")
        waits = tried(draft.trouble(instance), draft, instance, draft.now + WAIT_LOOK_S)
        draft.note(instance, replace(waits, told_at=draft.now))
        return instance
    instance = placed(instance, choice)
    draft.declare(instance, f"{draft.where(instance)}: {choice.why}")
    return instance


def _free_ordinal(draft: Draft, model: ModelId) -> int:
    """The lowest, so that what an instance has left behind is found by the one that comes in its place."""
    taken = {fact.instance.ordinal for fact in draft.current() if fact.instance.model == model}
    return next(number for number in count() if number not in taken)


def _withdraw(draft: Draft, id: InstanceId) -> None:
    fact = draft.declared.get(id)
    if fact is not None and not fact.withdrawn:
        draft.withdraw(fact, "it was withdrawn")
