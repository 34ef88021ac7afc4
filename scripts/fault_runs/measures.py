"""How long a fault is felt: until the others know of it, and as a pause in the streams that it hit."""

from collections.abc import Iterator

from scripts.benchmark.stats import gaps_within
from scripts.fault_runs.history import (
    Action,
    AnyEvent,
    DeclaredSeen,
    History,
    InstanceSeen,
    MemberSeen,
    RankSeen,
    Struck,
)
from scripts.fault_runs.requests import Request, requests_of

BROKEN = ("failed", "stopped", "waiting", "connecting")
OF_NODES = (Action.KILL_NODE, Action.STOP_NODE, Action.CUT_LINK)


def pauses(history: History) -> list[float]:
    """The longest gap of each stream that ran on the struck ranks and went on to its end, in seconds.

    Before its first text a stream counts from where it was accepted.
    """
    hits = [event for event in history if isinstance(event, Struck) and event.ranks]
    if not hits:
        return []
    first_s = min(hit.at_s for hit in hits)
    found = [_pause(request, first_s) for request in requests_of(history) if request.finished]
    return [pause for pause in found if pause is not None]


def _pause(request: Request, struck_s: float) -> float | None:
    if request.submitted.probe or request.accepted_s is None or request.accepted_s > struck_s:
        return None
    times = [request.accepted_s, *(piece.at_s for piece in request.pieces)]
    return max(gaps_within(times, struck_s, float("inf")), default=None)


def detections(history: History) -> list[float]:
    """From each fault until each surviving node saw it, in seconds; a fault that nobody saw has none."""
    faults = [event for event in history if isinstance(event, Struck)]
    struck = {fault.node for fault in faults if fault.action in OF_NODES}
    found: list[float] = []
    for fault in faults:
        seen: dict[str, float] = {}
        for by, at_s in _sights(history, fault):
            if by not in struck:
                seen.setdefault(by, at_s - fault.at_s)
        found += seen.values()
    return found


def _sights(history: History, fault: Struck) -> Iterator[tuple[str, float]]:
    for event in history:
        if event.at_s >= fault.at_s and not isinstance(event, Struck) and _shows(event, fault):
            match event:
                case MemberSeen() | DeclaredSeen() | InstanceSeen() | RankSeen():
                    yield event.by, event.at_s
                case _:
                    pass


def _shows(event: AnyEvent, fault: Struck) -> bool:
    """Whether this tells of the fault: the node is gone, or its rank is no longer what it was."""
    if fault.action in OF_NODES:
        return isinstance(event, MemberSeen) and event.node == fault.node and not event.here
    match event:
        case RankSeen(instance=fault.instance, epoch=fault.epoch) if event.rank in fault.ranks:
            return not event.here or event.phase in BROKEN
        case InstanceSeen(instance=fault.instance, epoch=fault.epoch):
            return not event.here or event.phase in BROKEN
        case InstanceSeen(instance=fault.instance) | DeclaredSeen(instance=fault.instance):
            return event.epoch > fault.epoch
        case _:
            return False
