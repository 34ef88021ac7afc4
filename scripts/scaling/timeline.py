"""When something held for all nodes: from what each of them saw, in the order in which it saw it. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from scripts.scaling.words import Saw

Timelines: TypeAlias = Mapping[int, Sequence[Saw]]
Wanted: TypeAlias = Callable[[Saw], bool]


def knows_all(nodes: int, models: int) -> Wanted:
    """Members for it are all others, and it holds the facts of all."""
    return lambda saw: (saw.members, saw.nodes, saw.models) == (nodes - 1, nodes, models)


def has_only(coordinator: str) -> Wanted:
    """Nobody else says that it is coordinator."""
    return lambda saw: saw.coordinators == (coordinator,)


def holds_since(timelines: Timelines, nodes: Iterable[int], wanted: Wanted) -> float | None:
    """When the last of these nodes came to see what is wanted, for good; None: not all of them do."""
    since = [_since(timelines.get(node, ()), wanted) for node in nodes]
    held = [at for at in since if at is not None]
    return max(held) if held and len(held) == len(since) else None


def agreed_since(timelines: Timelines, nodes: Iterable[int], without: str = "") -> float | None:
    """When the last of these nodes came to see the one coordinator that all see, and that is another one."""
    among = tuple(nodes)
    last = {timelines[node][-1].coordinators if timelines.get(node) else () for node in among}
    if len(last) != 1:
        return None
    (heads,) = last
    return (
        holds_since(timelines, among, has_only(heads[0])) if len(heads) == 1 and heads[0] != without else None
    )


def _since(timeline: Sequence[Saw], wanted: Wanted) -> float | None:
    first = None
    for saw in reversed(timeline):
        if not wanted(saw):
            break
        first = saw.at
    return first
