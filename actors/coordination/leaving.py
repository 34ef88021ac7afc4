"""A node that is about to stop: what it runs is prepared elsewhere and taken over, or moves with a pause."""

from actors.coordination.draft import Draft, moved, tried
from actors.coordination.losses import LINGER_S, WAIT_LOOK_S, count_failure
from actors.coordination.sight import Broken, Fine, Gone, health
from bus.messages.base import NodeId
from bus.messages.facts import DeclaredFact
from bus.messages.placement import Instance


def move(draft: Draft, fact: DeclaredFact) -> None:
    """See to an instance that is fine, but may have to go."""
    nodes = _leaving(draft, fact.instance)
    successor = fact.successor
    if successor is not None and not _is_to_be_replaced(draft, successor):
        if draft.sight.is_ready(successor):
            cause = f"moved, since {draft.names(nodes)} leaves" if nodes else "moved"
            draft.declare(successor, f"epoch {successor.epoch}: {cause}; {draft.where(successor)}")
    elif nodes:
        _prepare(draft, fact, nodes)


def _leaving(draft: Draft, instance: Instance) -> tuple[NodeId, ...]:
    members = draft.state.members
    return tuple(node for node in instance.nodes if node in members and members[node].leaving)


def _is_to_be_replaced(draft: Draft, successor: Instance) -> bool:
    """The successor came to nothing, or has to go itself, and the next try is due."""
    match health(successor, draft.state.members, draft.sight):
        case Fine():
            return bool(_leaving(draft, successor))
        case Gone():
            return True
        case Broken(rank=rank, lingering=lingering):
            trouble = count_failure(draft, successor, rank)
            due = max(trouble.again_at, trouble.lost_at + LINGER_S if lingering else trouble.again_at)
            if draft.now < due:
                draft.look(due)
            return draft.now >= due


def _prepare(draft: Draft, fact: DeclaredFact, nodes: tuple[NodeId, ...]) -> None:
    instance, trouble = fact.instance, draft.trouble(fact.instance)
    if draft.now < trouble.again_at:
        draft.look(trouble.again_at)
        return
    if trouble.given_up and not draft.have_circumstances_changed(instance):
        draft.restate(fact, f"{draft.names(nodes)} leaves, but elsewhere it {trouble.given_up}")
        return
    cause = f"{draft.names(nodes)} leaves"
    ready = draft.sight.is_ready(instance)
    beside = draft.choose_again(fact, beside=True) if ready else "it does not answer requests yet"
    if not isinstance(beside, str):
        successor = moved(fact, beside)
        draft.declare(instance, f"{cause}; it moves to {draft.names(successor.nodes)}", successor)
        return
    instead = draft.choose_again(fact)
    if not isinstance(instead, str):
        draft.place(fact, instead, cause)
        return
    draft.restate(fact, f"{cause}, and it can't move: {instead}")
    draft.note(instance, tried(trouble, draft, instance, draft.now + WAIT_LOOK_S))
