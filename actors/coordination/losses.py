"""What becomes of an instance whose node is gone or whose epoch broke: the next one, or an end to trying."""

from dataclasses import replace

import msgspec

from actors.coordination.draft import Draft, next_epoch, tried
from actors.coordination.sight import Broken, Fine, Gone, RankState, health
from actors.coordination.situation import Trouble
from actors.retry import ENGINE_RESTARTS
from bus.messages.base import NodeId
from bus.messages.facts import DeclaredFact
from bus.messages.placement import Instance

STEADY_S = 60.0
"""What was ready for so long held: earlier failures are forgotten."""

LINGER_S = 6.0
"""Ranks that are still there when their epoch broke have so long to end, or their node to be found gone."""

FREED_S = 3.0
"""The memory of engines that ended shows in a node's facts by then; until it does, no place is no answer."""

FREED_LOOK_S = 0.25

WAIT_LOOK_S = 3.0
"""How often a place is looked for that there was none before, since memory may have come free."""


def mend(draft: Draft, fact: DeclaredFact) -> bool:
    """See to an instance that has a place; true: it is fine as far as its ranks and nodes go."""
    match health(fact.instance, draft.state.members, draft.sight):
        case Fine():
            _settle(draft, fact)
            return True
        case Gone(nodes=nodes):
            _gone(draft, fact, nodes)
        case Broken() as broken:
            _broken(draft, fact, broken)
    return False


def count_failure(draft: Draft, epoch: Instance, rank: RankState) -> Trouble:
    """Take note that an epoch failed, once, and of a node where it always will."""
    trouble = draft.trouble(epoch)
    if trouble.epoch != epoch.epoch:
        failures = trouble.failures + 1
        wait_s = ENGINE_RESTARTS.wait_s(failures)
        trouble = replace(
            trouble,
            failures=failures,
            epoch=epoch.epoch,
            lost_at=draft.now,
            again_at=draft.now + (wait_s or 0.0),
            given_up="" if wait_s is not None else _last_straw(failures, failed(draft, rank)),
            circumstances=draft.state.circumstances(epoch.model),
            ready_since=None,
        )
    if rank.permanent:
        trouble = replace(trouble, barred=trouble.barred | {rank.node})
    draft.note(epoch, trouble)
    return trouble


def promote(draft: Draft, fact: DeclaredFact, cause: str) -> bool:
    """Let the successor that is being prepared take over, if there is one and it is fine."""
    successor = fact.successor
    if successor is None or not isinstance(health(successor, draft.state.members, draft.sight), Fine):
        return False
    draft.declare(successor, f"epoch {successor.epoch}: {cause}; {draft.where(successor)}")
    return True


def _settle(draft: Draft, fact: DeclaredFact) -> None:
    instance = fact.instance
    trouble = draft.trouble(instance)
    if fact.given_up:
        # That was in an earlier life of its nodes: as it runs again, whoever asks for it is let in again.
        draft.restate(fact, f"tried again after a restart; {draft.where(instance)}")
    if trouble == Trouble():
        return
    if trouble.awaited:
        trouble = replace(trouble, awaited=False)
        draft.restate(fact, f"its nodes came back after a restart; {draft.where(instance)}")
    if not draft.sight.is_ready(instance):
        draft.note(instance, replace(trouble, ready_since=None))
        return
    since = draft.now if trouble.ready_since is None else trouble.ready_since
    if draft.now >= since + STEADY_S:
        draft.forget(instance)
    else:
        draft.note(instance, replace(trouble, ready_since=since))
        draft.look(since + STEADY_S)


# -- a node is gone --------------------------------------------------------------------------------


def _gone(draft: Draft, fact: DeclaredFact, nodes: tuple[NodeId, ...]) -> None:
    state, instance = draft.state, fact.instance
    rejoined_by = state.started + state.rejoin_s
    if draft.now < rejoined_by and not any(node in state.met for node in nodes):
        draft.look(rejoined_by)
        draft.note(instance, replace(draft.trouble(instance), awaited=True))
        draft.restate(fact, f"waits for {draft.names(nodes)} to come back after a restart")
        return
    trouble = draft.trouble(instance)
    if trouble.epoch != instance.epoch:
        trouble = replace(trouble, epoch=instance.epoch, lost_at=draft.now)
    # That a node is gone explains what failed before.
    draft.note(instance, replace(trouble, failures=0, given_up="", ready_since=None))
    cause = f"{draft.names(nodes)} {'is' if len(nodes) == 1 else 'are'} gone"
    if not promote(draft, fact, cause):
        _replace(draft, fact, cause)


def _replace(draft: Draft, fact: DeclaredFact, cause: str) -> None:
    """Place it anew on what is left, or have it wait for a place."""
    choice = draft.choose_again(fact)
    trouble = draft.trouble(fact.instance)
    if not isinstance(choice, str):
        draft.place(fact, choice, cause)
    elif draft.now < trouble.lost_at + FREED_S:
        draft.look(draft.now + FREED_LOOK_S)
    else:
        draft.pause(fact, f"{cause}; waits for a place: {choice}")
        waits = tried(trouble, draft, fact.instance, draft.now + WAIT_LOOK_S)
        draft.note(fact.instance, replace(waits, told_at=draft.now))


# -- an epoch broke --------------------------------------------------------------------------------


def _broken(draft: Draft, fact: DeclaredFact, broken: Broken) -> None:
    instance, rank = fact.instance, broken.rank
    trouble = count_failure(draft, instance, rank)
    cause = failed(draft, rank)
    if (trouble.given_up or rank.permanent) and draft.have_circumstances_changed(instance):
        draft.note(instance, Trouble(epoch=instance.epoch, lost_at=draft.now))
        _replace(draft, fact, f"tried again, since nodes or files have changed; before, {cause}")
    elif promote(draft, fact, cause):
        pass
    elif broken.lingering and draft.now < trouble.lost_at + LINGER_S:
        # Whether their nodes live is not certain, and their memory is not free.
        draft.look(trouble.lost_at + LINGER_S)
    elif trouble.given_up:
        draft.restate(fact, trouble.given_up, given_up=True)
    elif draft.now < trouble.again_at and not rank.permanent:
        draft.look(trouble.again_at)
    else:
        _restart(draft, fact, trouble, cause)


def _restart(draft: Draft, fact: DeclaredFact, trouble: Trouble, cause: str) -> None:
    instance = fact.instance
    usable = {node.id for node in draft.available(trouble.barred)}
    if usable.issuperset(instance.nodes):
        again = msgspec.structs.replace(instance, epoch=next_epoch(fact))
        draft.declare(again, f"epoch {again.epoch}: {cause}")
    elif trouble.barred.isdisjoint(instance.nodes):
        _replace(draft, fact, cause)
    else:
        _elsewhere(draft, fact, trouble, cause)


def _elsewhere(draft: Draft, fact: DeclaredFact, trouble: Trouble, cause: str) -> None:
    """It failed for good on some node: only others will do."""
    choice = draft.choose_again(fact)
    if not isinstance(choice, str):
        draft.place(fact, choice, cause)
    elif draft.now < trouble.lost_at + FREED_S:
        draft.look(draft.now + FREED_LOOK_S)
    else:
        reason = f"{cause}; and there is no other place: {choice}"
        draft.note(fact.instance, replace(trouble, given_up=reason))
        draft.restate(fact, reason, given_up=True)


def failed(draft: Draft, rank: RankState) -> str:
    """For a person to read."""
    return f"rank {rank.rank} on {draft.state.name_of(rank.node)} failed: {rank.reason}"


def _last_straw(failures: int, cause: str) -> str:
    return (
        f"failed {failures} times in a row, last: {cause};"
        " it is tried again when nodes come or go, or the model's files change"
    )
