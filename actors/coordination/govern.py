"""What an acting coordinator does next: one look at everything, one decision for each instance."""

from actors.coordination.draft import Draft
from actors.coordination.leaving import move
from actors.coordination.losses import mend
from actors.coordination.merging import merge
from actors.coordination.orders import carry_out
from actors.coordination.situation import Situation, Verdict
from actors.coordination.waiting import seek
from bus.messages.facts import DeclaredFact


def govern(state: Situation, now: float) -> Verdict:
    """Decide on everything that is declared and asked for; `now` is on any clock that only goes forward.

    Deciding again from what was decided, with nothing changed, declares nothing.
    """
    draft = Draft(state, now)
    merge(draft)
    for fact in draft.current():
        _see_to(draft, fact)
    answers = tuple(carry_out(draft, order) for order in state.orders)
    return Verdict(draft.changes, draft.next_look, answers, draft.history)


def _see_to(draft: Draft, fact: DeclaredFact) -> None:
    if not fact.instance.stages:
        seek(draft, fact)
    elif mend(draft, fact):
        move(draft, draft.declared[fact.instance.id])
