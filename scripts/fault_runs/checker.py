"""From a run's history to what in it breaks a promise: pure, one function per rule."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from scripts.fault_runs.history import (
    Action,
    CoordinatorSeen,
    DeclaredSeen,
    Healed,
    History,
    InstanceSeen,
    Mended,
    RankSeen,
    Settled,
    Struck,
    key_of,
    latest,
)
from scripts.fault_runs.requests import Request, requests_of

LOADING = frozenset(("connecting", "loading", "warming"))
READY = "ready"


class Rule(StrEnum):
    """What is promised."""

    ONE_END = "one end"
    """An accepted request whose node lives has exactly one terminal event."""
    SAME_TEXT = "same text"
    """Its text is what it is when nothing breaks; of one that was cancelled, how that begins."""
    NOT_LOST = "not lost"
    """It does not end with an error."""
    FREED = "freed"
    """When all requests have ended, nothing is computed or kept for them."""
    ONE_COORDINATOR = "one coordinator"
    """A term has one coordinator, and an epoch of an instance one declaration."""
    EPOCHS_GROW = "epochs grow"
    ONE_READY_EPOCH = "one ready epoch"
    """In the end no instance is ready in two epochs."""
    CONVERGED = "converged"
    """In the end there is one coordinator, the instance is ready and answers on every node."""
    NOT_STUCK = "not stuck"
    """Nothing connects or loads for longer than it may without progress."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long things may take, in seconds: for a model of a few megabytes on a busy machine."""

    freed_s: float = 5.0
    """From the last request's end until nothing is held."""
    stuck_s: float = 30.0
    """Of connecting or loading without progress."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken."""

    rule: Rule
    what: str
    at_s: float


def check(history: History, limits: Limits | None = None) -> list[Violation]:
    """All violations, in order of time."""
    limits = limits or Limits()
    found = [
        *one_end(history),
        *same_text(history),
        *not_lost(history),
        *freed(history, limits.freed_s),
        *one_coordinator(history),
        *epochs_grow(history),
        *one_ready_epoch(history),
        *converged(history),
        *not_stuck(history, limits.stuck_s),
    ]
    return sorted(found, key=lambda violation: violation.at_s)


# -- requests --------------------------------------------------------------------------------------


def one_end(history: History) -> Iterator[Violation]:
    for request in requests_of(history):
        if request.lost_its_node or request.refused is not None:
            continue
        if request.accepted_s is None:
            if not request.gave_up:
                yield _of(request, Rule.ONE_END, "was never answered")
        elif request.terminals > 1:
            yield _of(request, Rule.ONE_END, f"has {request.terminals} terminal events")
        elif request.terminals == 0 and not request.left:
            yield _of(
                request, Rule.ONE_END, f"has no terminal event: {request.close_error or 'it just ends'}"
            )
        if request.after_end:
            yield _of(request, Rule.ONE_END, f"goes on after its end: {request.after_end!r}")


def same_text(history: History) -> Iterator[Violation]:
    for request in requests_of(history):
        expected, text = request.submitted.expected, request.text
        if request.finished and text != expected:
            yield _of(request, Rule.SAME_TEXT, f"has another answer: {difference(expected, text)}")
        elif not expected.startswith(text):
            yield _of(request, Rule.SAME_TEXT, f"began another answer: {difference(expected, text)}")
        elif request.finished and request.tokens not in (None, request.submitted.max_tokens):
            counted = f"{request.tokens} of {request.submitted.max_tokens} tokens"
            yield _of(request, Rule.SAME_TEXT, f"has the right text but says that it took {counted}")


def not_lost(history: History) -> Iterator[Violation]:
    for request in requests_of(history):
        if request.accepted_s is not None and request.failed is not None and not request.gave_up:
            yield _of(request, Rule.NOT_LOST, f"was accepted and failed: {request.failed}")


def difference(expected: str, text: str) -> str:
    """Where two texts part, for a person to read."""
    pairs = enumerate(zip(expected, text, strict=False))
    at = next((place for place, (left, right) in pairs if left != right), min(len(expected), len(text)))
    return (
        f"from character {at} of {len(expected)} on {text[at : at + 40]!r} instead of "
        f"{expected[at : at + 40]!r} ({len(text)} characters came)"
    )


def _of(request: Request, rule: Rule, what: str) -> Violation:
    return Violation(rule, f"{request.name} on {request.submitted.node} {what}", request.ended_s)


# -- the instance ----------------------------------------------------------------------------------


def freed(history: History, within_s: float) -> Iterator[Violation]:
    """Judged by every node that is alive at the end, `within_s` after the clients' last request, and after
    the last fault was undone: a node that hangs sees nothing."""
    ends = [request.ended_s for request in requests_of(history) if not request.submitted.probe]
    ends += [event.at_s for event in history if isinstance(event, Healed)]
    settled = _settled(history)
    if not ends or settled is None:
        return
    until = max(ends) + within_s
    probed = [request.submitted.at_s for request in requests_of(history) if request.submitted.probe]
    judged = [event for event in history if event.at_s <= min([until, *probed])]
    left: dict[str, str] = {}
    for by in settled.live:
        for seen in latest(judged, by):
            match seen:
                case InstanceSeen(held=held, kv_bytes=kv) if held or kv:
                    left[seen.instance] = f"{by} sees {held} sequences and {kv} bytes of cache"
                case RankSeen(rank=rank, kv_bytes=kv) if kv:
                    left.setdefault(seen.instance, f"{by} sees {kv} bytes of cache in rank {rank}")
                case _:
                    pass
    for instance, what in left.items():
        yield Violation(Rule.FREED, f"{what} of {instance} {within_s:g} s after the last request", until)


def epochs_grow(history: History) -> Iterator[Violation]:
    """As each node tells every other; one that is started again begins anew."""
    highest: dict[tuple[str, str, str], int] = defaultdict(int)
    for event in history:
        match event:
            case Healed(action=Action.KILL_NODE, node=node):
                highest = defaultdict(int, {key: top for key, top in highest.items() if node not in key[:2]})
            case DeclaredSeen(here=True, holder=holder) if holder:
                key = (event.by, holder, event.instance)
                if event.epoch < highest[key]:
                    what = f"{holder} declares epoch {event.epoch} of {event.instance} after {highest[key]}"
                    yield Violation(Rule.EPOCHS_GROW, what, event.at_s)
                highest[key] = max(highest[key], event.epoch)
            case _:
                pass


def one_ready_epoch(history: History) -> Iterator[Violation]:
    settled = _settled(history)
    if settled is None:
        return
    ready: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for by in settled.live:
        for seen in latest(_before(history, settled), by):
            if isinstance(seen, InstanceSeen | RankSeen) and seen.phase == READY:
                ready[seen.instance][seen.epoch].add(by)
    for instance, epochs in ready.items():
        if len(epochs) > 1:
            seen_by = "; ".join(
                f"{epoch} by {', '.join(sorted(who))}" for epoch, who in sorted(epochs.items())
            )
            yield Violation(Rule.ONE_READY_EPOCH, f"{instance} is ready in epochs {seen_by}", settled.at_s)


def not_stuck(history: History, within_s: float) -> Iterator[Violation]:
    """Any change of phase or progress ends a wait, and so does the end of the sight or of who sees: while a
    node hangs, its last sight is none."""
    since: dict[tuple[str, ...], InstanceSeen | RankSeen] = {}
    for event in history:
        if isinstance(event, Struck) and event.action in (Action.KILL_NODE, Action.STOP_NODE):
            since = {key: seen for key, seen in since.items() if seen.by != event.node}
        elif isinstance(event, InstanceSeen | RankSeen):
            key = _key(event)
            before = since.get(key)
            if before is not None and event.here and _same_state(before, event):
                continue
            if before is not None:
                yield from _stuck(before, event.at_s, within_s)
            if event.here and event.phase in LOADING:
                since[key] = event
            else:
                since.pop(key, None)
    if history:
        for event in since.values():
            yield from _stuck(event, history[-1].at_s, within_s)


def _key(seen: InstanceSeen | RankSeen) -> tuple[str, ...]:
    return (seen.by, *key_of(seen))


def _same_state(before: InstanceSeen | RankSeen, now: InstanceSeen | RankSeen) -> bool:
    return (before.epoch, before.phase, before.progress) == (now.epoch, now.phase, now.progress)


def _stuck(seen: InstanceSeen | RankSeen, until_s: float, within_s: float) -> Iterator[Violation]:
    waited_s = until_s - seen.at_s
    if waited_s > within_s:
        rank = f"rank {seen.rank} of " if isinstance(seen, RankSeen) else ""
        what = (
            f"{rank}{seen.instance} epoch {seen.epoch} was {seen.phase} for {waited_s:.0f} s: {seen.reason}"
        )
        yield Violation(Rule.NOT_STUCK, f"{seen.by} sees that {what}", until_s)


# -- the coordinator -------------------------------------------------------------------------------


def one_coordinator(history: History) -> Iterator[Violation]:
    holders: dict[tuple[int, str], str] = {}
    contents: dict[tuple[str, int, int, str], tuple[object, ...]] = {}
    for event in history:
        match event:
            case CoordinatorSeen(here=True, term=term, term_node=named, node=node):
                holder = holders.setdefault((term, named), node)
                if holder != node:
                    what = f"{holder} and {node} are both coordinator in term {term} ({named})"
                    yield Violation(Rule.ONE_COORDINATOR, what, event.at_s)
            case DeclaredSeen(here=True, withdrawn=False):
                act = (event.instance, event.epoch, event.term, event.term_node)
                content = (event.ranks, event.layers)
                if contents.setdefault(act, content) != content:
                    what = (
                        f"{event.instance} epoch {event.epoch} is declared in two ways in term {event.term}"
                    )
                    yield Violation(Rule.ONE_COORDINATOR, what, event.at_s)
            case _:
                pass


def converged(history: History) -> Iterator[Violation]:
    settled = _settled(history)
    if settled is None:
        yield Violation(Rule.CONVERGED, "the run was broken off", history[-1].at_s if history else 0.0)
        return
    for event in history:
        if isinstance(event, Mended) and event.reason:
            yield Violation(Rule.CONVERGED, f"with all faults undone: {event.reason}", event.at_s)
    if settled.reason:
        yield Violation(Rule.CONVERGED, settled.reason, settled.at_s)
    for request in requests_of(history):
        if request.submitted.probe and not request.finished:
            why = request.failed or request.refused or request.close_error or "no end"
            yield _of(request, Rule.CONVERGED, f"was asked at the end and did not answer: {why}")
    found = {
        seen.node
        for by in settled.live
        for seen in latest(_before(history, settled), by)
        if isinstance(seen, CoordinatorSeen)
    }
    if len(found) > 1:
        what = f"in the end {', '.join(sorted(found))} are coordinators"
        yield Violation(Rule.ONE_COORDINATOR, what, settled.at_s)


def _before(history: History, moment: Settled) -> History:
    return [event for event in history if event.at_s <= moment.at_s]


def _settled(history: History) -> Settled | None:
    return next((event for event in history if isinstance(event, Settled)), None)
