"""What the actors of one node tell each other, beyond the messages that can also cross the bus."""

from dataclasses import dataclass
from typing import TypeAlias

from actors.kernel.lifecycle import Terminated
from actors.kernel.reference import Ref
from bus.errors import BusError
from bus.messages.base import InstanceId, ModelId, NodeId, SequenceId
from bus.messages.engine import Accepted, FromEngine, Phase, Prefilled, Queued, Refused, Submit
from bus.messages.facts import RankFact
from bus.messages.generation import Delta
from bus.messages.peers import Abandoned, Dispatched, Relayed
from bus.messages.placement import Create, Instance, Want, Wish, Withdraw

# -- by a timer, to oneself ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tick:
    """Time for what is done again and again."""


@dataclass(frozen=True, slots=True)
class Launch:
    """Time to start the engine process again."""


@dataclass(frozen=True, slots=True)
class Route:
    """Time to look for an instance (again)."""


@dataclass(frozen=True, slots=True)
class Overdue:
    """The deadline has passed."""


@dataclass(frozen=True, slots=True)
class Flush:
    """All that was said at once has been heard: pass it on."""


# -- to the Topology and the Downloader -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Leave:
    """This node is about to stop: let everybody know."""


@dataclass(frozen=True, slots=True)
class Measure:
    """Time to find out how fast this machine is."""


@dataclass(frozen=True, slots=True)
class FindModel:
    """Answered with the model of that name as it lies in the store now, or None."""

    model: ModelId


TopologyMessage: TypeAlias = Leave | Measure | Tick
DownloaderMessage: TypeAlias = FindModel | Tick


# -- to Placement and the Supervisor --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Look:
    """Something has changed that may matter to where models run."""


@dataclass(frozen=True, slots=True)
class Preview:
    """Answered with Previews: how this wish could be placed now; nothing is declared."""

    wish: Wish


@dataclass(frozen=True, slots=True)
class Opened:
    """Those that were to be found at the start have been found, or have had their time."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Answers what only the coordinator decides: who that is. None: ask again in a moment."""

    coordinator: NodeId | None
    why: str = "it is being elected"
    """Why there is no answer yet, for a person to read."""


@dataclass(frozen=True, slots=True)
class Run:
    """Have this node do its part of an instance: run its rank, and lead requests to rank 0."""

    instance: Instance


@dataclass(frozen=True, slots=True)
class Release:
    """This epoch of an instance is over: stop what this node does for it."""

    instance: InstanceId
    epoch: int


PlacementMessage: TypeAlias = Want | Create | Withdraw | Preview | Look | Opened | Tick
SupervisorMessage: TypeAlias = Run | Release


# -- between Requests and Runners -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InstanceChanged:
    """An instance is in another phase, or got further in it."""

    instance: InstanceId
    phase: Phase
    reason: str
    progress: float | None = None


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Have these sequences generated; each is answered to the Request that asks."""

    submits: tuple[Submit, ...]
    request: "Ref[RequestMessage]"


@dataclass(frozen=True, slots=True)
class Abandon:
    """Whoever dispatched these sequences lives on, but does not want them any more."""

    sequences: tuple[SequenceId, ...]


@dataclass(frozen=True, slots=True)
class EngineSaid:
    """The engine process of that launch said something."""

    launch: int
    body: FromEngine


@dataclass(frozen=True, slots=True)
class EngineLost:
    """The engine process of that launch has ended (its exit code) or left the bus (None)."""

    launch: int
    code: int | None


@dataclass(frozen=True, slots=True)
class Undelivered:
    """The engine process of that launch did not take a sequence."""

    launch: int
    sequence: SequenceId
    error: BusError


@dataclass(frozen=True, slots=True)
class RankTold:
    """Another rank of this epoch is as its fact says; None: its fact is gone, and so is the rank."""

    rank: int
    fact: RankFact | None


@dataclass(frozen=True, slots=True)
class Drain:
    """Take nothing new, and end when what runs has ended, or after so many seconds."""

    within_s: float


# -- between nodes ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NodeLeft:
    """A node is not a member any more."""

    node: NodeId
    why: str


@dataclass(frozen=True, slots=True)
class Undispatched:
    """Another node did not take a sequence."""

    sequence: SequenceId
    error: BusError


@dataclass(frozen=True, slots=True)
class Settled:
    """Another node knows that nobody wants these sequences any more."""

    sequences: tuple[SequenceId, ...]


@dataclass(frozen=True, slots=True)
class Relay:
    """What another node says of sequences that were dispatched to it."""

    node: NodeId
    relayed: Relayed


@dataclass(frozen=True, slots=True)
class CountRelays:
    """Answered by Audited: how often this Envoy has spoken."""


@dataclass(frozen=True, slots=True)
class PeerAsked:
    """Another node's command; answered with a Refusal, or with None where it is done."""

    node: NodeId
    body: Dispatched | Abandoned


@dataclass(frozen=True, slots=True)
class TakeEngine:
    """Answered with an engine process that nobody uses: one that was started ahead, or else a new one."""


StockMessage: TypeAlias = TakeEngine | Tick
DoorMessage: TypeAlias = Dispatch | Abandon
RelayMessage: TypeAlias = Relay
RunnerMessage: TypeAlias = (
    DoorMessage | EngineSaid | EngineLost | Undelivered | RankTold | Drain | Terminated | Launch | Tick
)
RequestMessage: TypeAlias = (
    Accepted | Refused | Delta | Prefilled | Queued | InstanceChanged | Terminated | Route | Overdue | Tick
)
ExchangeMessage: TypeAlias = PeerAsked | NodeLeft | Terminated
