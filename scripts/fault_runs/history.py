"""What happened in one fault run, as its clients, its faults and the nodes' own views tell it: JSON lines.

Times are seconds since the run began, by one monotonic clock. Nodes are called as the run calls them.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

import msgspec


class Action(StrEnum):
    """What is done to a node."""

    KILL_NODE = "kill-node"
    """SIGKILL to it and its engines: the machine dies."""
    KILL_ENGINE = "kill-engine"
    STOP_NODE = "stop-node"
    """SIGSTOP to it and its engines: the machine hangs."""
    STOP_ENGINE = "stop-engine"
    CUT_LINK = "cut-link"
    """Nothing reaches the other nodes any more; its own clients still reach it."""


class Leaving(StrEnum):
    """How a client gives an answer up."""

    DISCONNECT = "disconnect"
    CANCEL = "cancel"
    """`POST /v1/cancel/{id}` on the node that took the request."""


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    """Something at a moment."""

    at_s: float


# -- what the run does -----------------------------------------------------------------------------


class Began(Event, frozen=True, kw_only=True, tag="began"):
    """The cluster is whole and the run starts."""

    seed: int
    number: int
    scenario: str
    nodes: tuple[str, ...]
    instance: str
    """The instance under test; empty: it is placed during the run."""


class Struck(Event, frozen=True, kw_only=True, tag="struck"):
    """A fault was done."""

    action: Action
    node: str
    why: str
    """What the node was then: first rank, coordinator."""
    instance: str
    epoch: int
    ranks: tuple[int, ...]
    """Those that it held."""


class Healed(Event, frozen=True, kw_only=True, tag="healed"):
    """A fault was undone: the process goes on or was started again, the link is back."""

    action: Action
    node: str


class Settled(Event, frozen=True, kw_only=True, tag="settled"):
    """The wait for the cluster to come to rest is over, one way or the other."""

    reason: str = ""
    """What was still amiss; empty: nothing."""
    live: tuple[str, ...]


class Mended(Event, frozen=True, kw_only=True, tag="mended"):
    """All faults that were left have been undone, and the cluster had time to come together."""

    reason: str = ""
    """What was still amiss; empty: nothing."""


# -- what the clients see --------------------------------------------------------------------------


class Submitted(Event, frozen=True, kw_only=True, tag="submitted"):
    """A request was sent."""

    request: str
    node: str
    prompt: str
    max_tokens: int
    expected: str
    """The answer's text when nothing breaks."""
    probe: bool = False
    """Sent when all was at rest again, to see whether the cluster answers."""


class Accepted(Event, frozen=True, kw_only=True, tag="accepted"):
    """The stream was opened."""

    request: str
    id: str
    """The node's name for the request, once it has said it."""


class Refused(Event, frozen=True, kw_only=True, tag="refused"):
    """An error instead of a stream."""

    request: str
    status: int
    """HTTP's; 0: the node could not be reached."""
    error: str


class Piece(Event, frozen=True, kw_only=True, tag="piece"):
    """Text of the answer."""

    request: str
    text: str


class Finished(Event, frozen=True, kw_only=True, tag="finished"):
    """A terminal event: the answer is whole."""

    request: str
    reason: str


class Failed(Event, frozen=True, kw_only=True, tag="failed"):
    """A terminal event: an error in the stream."""

    request: str
    error: str


class GaveUp(Event, frozen=True, kw_only=True, tag="gave-up"):
    """The client leaves before the end, as it was told to."""

    request: str
    how: Leaving
    status: int = 0
    """Of the answer to a cancel; 0: there was none."""


class Closed(Event, frozen=True, kw_only=True, tag="closed"):
    """The connection is over."""

    request: str
    tokens: int | None = None
    """What the node says that it generated."""
    error: str = ""
    """Why, where it did not end as an answer ends."""
    overdue: bool = False
    """Nothing had ended it when the run's patience did."""


# -- what the nodes see ----------------------------------------------------------------------------


class Sight(Event, frozen=True, kw_only=True):
    """What a node's event stream says; `here` False: withdrawn."""

    by: str
    here: bool = True


class MemberSeen(Sight, frozen=True, kw_only=True, tag="member"):
    """Another node, or itself."""

    node: str


class CoordinatorSeen(Sight, frozen=True, kw_only=True, tag="coordinator"):
    """Who says that it is the coordinator."""

    node: str
    term: int = 0
    term_node: str = ""


class DeclaredSeen(Sight, frozen=True, kw_only=True, tag="declared"):
    """What the coordinator wants, as one node holds it."""

    instance: str
    holder: str = ""
    """That node; empty: a snapshot, which does not tell."""
    epoch: int = 0
    term: int = 0
    term_node: str = ""
    ranks: tuple[str, ...] = ()
    """Nodes in rank order."""
    layers: tuple[tuple[int, int], ...] = ()
    """Of each stage."""
    withdrawn: bool = False
    reason: str = ""


class InstanceSeen(Sight, frozen=True, kw_only=True, tag="instance"):
    """How an instance is in one of its epochs."""

    instance: str
    model: str = ""
    epoch: int
    phase: str = ""
    reason: str = ""
    ranks: tuple[str, ...] = ()
    sharding: str = ""
    held: int = 0
    """Sequences that run, are prefilled or wait."""
    kv_bytes: int = 0
    progress: float | None = None


class RankSeen(Sight, frozen=True, kw_only=True, tag="rank"):
    """How a rank of an instance is."""

    instance: str
    epoch: int
    rank: int
    node: str = ""
    phase: str = ""
    reason: str = ""
    kv_bytes: int = 0
    progress: float | None = None


Seen: TypeAlias = MemberSeen | CoordinatorSeen | DeclaredSeen | InstanceSeen | RankSeen
OfRequest: TypeAlias = Submitted | Accepted | Refused | Piece | Finished | Failed | GaveUp | Closed
OfRun: TypeAlias = Began | Struck | Healed | Settled | Mended
AnyEvent: TypeAlias = OfRun | OfRequest | Seen
History: TypeAlias = Sequence[AnyEvent]

_decoder = msgspec.json.Decoder[AnyEvent](AnyEvent)


def key_of(seen: Seen) -> tuple[str, ...]:
    """What a sight is of: later ones of the same key, by the same node, replace it."""
    match seen:
        case MemberSeen():
            return ("member", seen.node)
        case CoordinatorSeen():
            return ("coordinator", seen.node)
        case DeclaredSeen():
            return ("declared", seen.holder, seen.instance)
        case InstanceSeen():
            return ("instance", seen.instance, str(seen.epoch))
        case RankSeen():
            return ("rank", seen.instance, str(seen.epoch), str(seen.rank))


def latest(history: History, by: str) -> list[Seen]:
    """What a node sees after all this; nothing of what it saw before it was started again."""
    held: dict[tuple[str, ...], Seen] = {}
    for event in history:
        if isinstance(event, Healed) and event.action is Action.KILL_NODE and event.node == by:
            held.clear()
        elif isinstance(event, Sight) and event.by == by:
            if event.here:
                held[key_of(event)] = event
            else:
                held.pop(key_of(event), None)
    return list(held.values())


def write(history: Iterable[AnyEvent], path: Path) -> None:
    """One event a line."""
    path.write_bytes(b"".join(msgspec.json.encode(event) + b"\n" for event in history))


def read(path: Path) -> list[AnyEvent]:
    """What `write` wrote."""
    return [_decoder.decode(line) for line in path.read_bytes().splitlines()]
