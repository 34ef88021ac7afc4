"""Whether a cluster is at rest, told from what its nodes see: pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from scripts.fault_runs.checker import READY
from scripts.fault_runs.history import CoordinatorSeen, InstanceSeen, MemberSeen, RankSeen, Seen
from scripts.fault_runs.scenarios import Layout

Views = Mapping[str, Sequence[Seen]]
"""What each live node sees."""


def apart(views: Views) -> str:
    """Why the nodes are not one cluster, for a person to read; empty: they are."""
    live = set(views)
    for by, seen in views.items():
        members = {sight.node for sight in seen if isinstance(sight, MemberSeen)}
        if members != live:
            return f"{by} sees {_listed(members)} as members; {_listed(live)} are alive"
    chairs = {by: coordinators(seen) for by, seen in views.items()}
    for by, nodes in chairs.items():
        if len(nodes) != 1 or not nodes <= live:
            return f"{by} sees {_listed(nodes)} as coordinator"
    if len({frozenset(nodes) for nodes in chairs.values()}) > 1:
        return f"not all see the same coordinator: {chairs}"
    return ""


def unready(views: Views, model: str, layout: Layout | None = None) -> str:
    """Why the model can't be used, for a person to read; empty: all see it ready, once, on live nodes.

    `layout` is how it has to be divided; None: anyhow.
    """
    live, epochs = set(views), set[tuple[str, int]]()
    for by, seen in views.items():
        found = list(instances(seen, model))
        if len(found) != 1:
            names = _listed(f"{each.instance} ({each.phase})" for each in found)
            return f"{by} sees {names} of the model instead of one instance"
        (one,) = found
        if one.phase != READY:
            return f"{by} sees {one.instance} epoch {one.epoch} {one.phase}: {one.reason}"
        if layout is not None and (layout.ranks, layout.sharding) != (len(one.ranks), one.sharding):
            return f"{by} sees {one.instance} as {one.sharding} {len(one.ranks)} instead of {layout}"
        if not set(one.ranks) <= live:
            return f"{by} sees {one.instance} ready on {_listed(one.ranks)}; {_listed(live)} are alive"
        epochs.add((one.instance, one.epoch))
    return "" if len(epochs) <= 1 else f"the nodes see it ready in several epochs: {sorted(epochs)}"


def is_idle(views: Views, model: str) -> bool:
    """Whether nothing is held for anybody, as every node sees it."""
    return all(
        not (each.held or each.kv_bytes) for seen in views.values() for each in instances(seen, model)
    ) and not any(sight.kv_bytes for seen in views.values() for sight in seen if isinstance(sight, RankSeen))


def instances(seen: Iterable[Seen], model: str | None) -> Iterator[InstanceSeen]:
    """Those of a model; None: of any."""
    return (sight for sight in seen if isinstance(sight, InstanceSeen) and model in (None, sight.model))


def coordinators(seen: Iterable[Seen]) -> set[str]:
    """Who says to be one."""
    return {sight.node for sight in seen if isinstance(sight, CoordinatorSeen)}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nobody"
