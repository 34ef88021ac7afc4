"""What is declared but has no place: it gets one as soon as there is one."""

from dataclasses import replace

from actors.coordination.draft import Draft, tried
from actors.coordination.losses import WAIT_LOOK_S
from bus.messages.facts import DeclaredFact

RETELL_S = 30.0
"""How often a reason that is only told in other figures is declared anew."""


def seek(draft: Draft, fact: DeclaredFact) -> None:
    """Try again when nodes or files have changed, and every few seconds, since memory may have come free."""
    instance, trouble = fact.instance, draft.trouble(fact.instance)
    news = draft.have_circumstances_changed(instance)
    if draft.now < trouble.again_at and not news:
        draft.look(trouble.again_at)
        return
    # With no other place left, one where it failed for good is worth a try: its reason may be gone.
    trouble = replace(trouble, barred=frozenset())
    draft.note(instance, trouble)
    choice = draft.choose_again(fact)
    if not isinstance(choice, str):
        draft.place(fact, choice, "there is room for it now")
        return
    trouble = tried(trouble, draft, instance, draft.now + WAIT_LOOK_S)
    if news or draft.now >= trouble.told_at + RETELL_S:
        draft.restate(fact, f"waits for a place: {choice}")
        trouble = replace(trouble, told_at=draft.now)
    draft.note(instance, trouble)
