"""What of all that is declared this node has to do, and what it does already. Pure."""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import TypeAlias

from bus.messages.base import InstanceId, NodeId
from bus.messages.facts import DeclaredFact, Fact
from bus.messages.placement import Instance

Key: TypeAlias = tuple[InstanceId, int]
"""An epoch of an instance."""


@dataclass(frozen=True, slots=True)
class Steps:
    """What is to be done now."""

    run: tuple[Instance, ...] = ()
    drain: tuple[Key, ...] = ()
    release: tuple[Key, ...] = ()
    unfinished: bool = False
    """Something has to end first: look again soon."""


def next_steps(
    me: NodeId,
    declared: Iterable[DeclaredFact],
    running: Mapping[Key, Instance],
    alive: Set[Key],
    facts: Mapping[str, Fact],
) -> Steps:
    """`running`: what was begun here and not released. `alive`: epochs of which some actor lives here.

    What is withdrawn drains, so that its requests can end; what has a newer epoch is released at once: its
    requests go on there.
    """
    wanted: dict[Key, Instance] = {}
    withdrawn: set[InstanceId] = set()
    for fact in declared:
        if fact.withdrawn:
            withdrawn.add(fact.instance.id)
            continue
        for instance in (fact.instance, fact.successor):
            if instance is not None and instance.stages:
                wanted[instance.id, instance.epoch] = instance
    over = [key for key, instance in running.items() if wanted.get(key) != instance]
    drain = tuple(key for key in over if key[0] in withdrawn and _is_served(key, facts))
    release = tuple(key for key in over if key not in drain)
    fresh = [key for key in wanted if key not in running or key in release]
    # Names and facts of an epoch belong to one life of it.
    blocked = {key for key in fresh if key in alive}
    return Steps(
        run=tuple(wanted[key] for key in fresh if key not in blocked),
        drain=tuple(key for key in drain if me in running[key].nodes),
        release=release,
        unfinished=bool(blocked or drain),
    )


def _is_served(key: Key, facts: Mapping[str, Fact]) -> bool:
    """Its rank 0 still says something: there may be requests that it answers."""
    return f"instance/{key[0]}/{key[1]}" in facts
