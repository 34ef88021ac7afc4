"""What the clients saw of each request, gathered from a history."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from scripts.fault_runs.history import (
    Accepted,
    Action,
    AnyEvent,
    Closed,
    Failed,
    Finished,
    GaveUp,
    Healed,
    History,
    Leaving,
    OfRequest,
    Piece,
    Refused,
    Struck,
    Submitted,
)


@dataclass
class Request:
    """One request from its sending to the end of its connection. Times as in the history."""

    submitted: Submitted
    accepted_s: float | None = None
    pieces: list[Piece] = field(default_factory=list)
    terminals: int = 0
    finished: bool = False
    failed: str | None = None
    refused: str | None = None
    gave_up: GaveUp | None = None
    closed: Closed | None = None
    after_end: str = ""
    """Text that came after a terminal event."""
    lost_its_node: bool = False
    """The node that took it died under it, or hung and never went on: its client can't be served."""

    @property
    def name(self) -> str:
        return self.submitted.request

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @property
    def left(self) -> bool:
        """Its client hung up, and so can't know its end."""
        return self.gave_up is not None and self.gave_up.how is Leaving.DISCONNECT

    @property
    def tokens(self) -> int | None:
        return self.closed.tokens if self.closed else None

    @property
    def close_error(self) -> str:
        return self.closed.error if self.closed else "it was never closed"

    @property
    def ended_s(self) -> float:
        return self.closed.at_s if self.closed else self.submitted.at_s

    def take(self, event: OfRequest) -> None:
        """Note one of its events."""
        match event:
            case Accepted():
                self.accepted_s = event.at_s
            case Refused():
                self.refused = f"{event.status} {event.error}"
            case Piece():
                self.pieces.append(event)
                if self.terminals:
                    self.after_end += event.text
            case Finished():
                self.terminals += 1
                self.finished = True
            case Failed():
                self.terminals += 1
                self.failed = event.error
            case GaveUp():
                self.gave_up = event
            case Closed():
                self.closed = event
            case Submitted():
                raise ValueError(f"{self.name} is submitted twice")


def requests_of(history: History) -> list[Request]:
    """All requests, in the order in which they were sent."""
    found: dict[str, Request] = {}
    for event in history:
        if isinstance(event, Submitted):
            if event.request in found:
                raise ValueError(f"{event.request} is submitted twice")
            found[event.request] = Request(event)
        elif isinstance(event, OfRequest):
            found[event.request].take(event)
    for request in found.values():
        request.lost_its_node = any(_took_away(history, request))
    return list(found.values())


def _took_away(history: History, request: Request) -> Iterator[bool]:
    start, node = request.submitted.at_s, request.submitted.node
    end = request.closed.at_s if request.closed else float("inf")
    for event in history:
        if isinstance(event, Struck) and event.node == node and event.at_s <= end:
            match event.action:
                case Action.KILL_NODE:
                    yield not _healed(history, event, before_s=start)
                case Action.STOP_NODE:
                    yield not _healed(history, event, before_s=end)
                case Action.KILL_ENGINE | Action.STOP_ENGINE | Action.CUT_LINK:
                    yield False


def _healed(history: History, fault: Struck, before_s: float) -> bool:
    return any(_heals(event, fault, before_s) for event in history)


def _heals(event: AnyEvent, fault: Struck, before_s: float) -> bool:
    return (
        isinstance(event, Healed)
        and (event.action, event.node) == (fault.action, fault.node)
        and fault.at_s <= event.at_s <= before_s
    )
