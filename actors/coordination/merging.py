"""Two halves of a cluster have met: of instances that nobody made by hand, one for a model is enough."""

from itertools import groupby

from actors.coordination.draft import Draft
from actors.coordination.sight import Fine, health
from bus.messages.base import InstanceId
from bus.messages.facts import DeclaredFact


def merge(draft: Draft) -> None:
    """Keep the one that serves best, and withdraw the others; what a person made stays."""
    made_by_nobody = [fact for fact in draft.current() if fact.instance.wish is None]
    by_model = sorted(made_by_nobody, key=lambda fact: fact.instance.model)
    for model, group in groupby(by_model, key=lambda fact: fact.instance.model):
        best, *others = sorted(group, key=lambda fact: _order(draft, fact))
        for fact in others:
            draft.withdraw(fact, f"instance {best.instance.id} serves {model} as well, and one is enough")


def _order(draft: Draft, fact: DeclaredFact) -> tuple[bool, bool, int, InstanceId]:
    """What is to be kept sorts first: what answers, what is on its way, what has more to do, the lower id."""
    instance = fact.instance
    whole = draft.sight.whole(instance)
    on_its_way = bool(instance.stages) and isinstance(
        health(instance, draft.state.members, draft.sight), Fine
    )
    running = whole.running + whole.prefilling + whole.waiting if whole is not None else 0
    return not draft.sight.is_ready(instance), not on_its_way, -running, instance.id
