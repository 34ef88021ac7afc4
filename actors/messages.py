"""What the actors of one node tell each other, beyond the messages that can also cross the bus."""

from dataclasses import dataclass
from typing import TypeAlias

from actors.lifecycle import Terminated
from actors.reference import Ref
from bus.messages.base import InstanceId, ModelId, SequenceId
from bus.messages.engine import Accepted, FromEngine, Phase, Prefilled, Refused, Submit
from bus.messages.generation import Delta
from bus.messages.placement import Declared, Want, Withdrawn

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


# -- to the Topology and the Downloader -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReadMemory:
    """Answered with this machine's memory as it is now."""


@dataclass(frozen=True, slots=True)
class FindModel:
    """Answered with the model of that name as it lies in the store now, or None."""

    model: ModelId


TopologyMessage: TypeAlias = ReadMemory | Tick
DownloaderMessage: TypeAlias = FindModel | Tick


# -- to Placement and the Supervisor --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InstanceChanged:
    """An instance is in another phase, or got further in it."""

    instance: InstanceId
    phase: Phase
    reason: str
    progress: float | None = None


PlacementMessage: TypeAlias = Want | InstanceChanged
SupervisorMessage: TypeAlias = Declared | Withdrawn


# -- between Requests and Runners -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Have these sequences generated; each is answered to the Request that asks."""

    submits: tuple[Submit, ...]
    request: "Ref[RequestMessage]"


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
    """A command to the engine process of that launch was not taken; of these sequences, if any."""

    launch: int
    sequences: tuple[SequenceId, ...]
    reason: str


RunnerMessage: TypeAlias = Dispatch | EngineSaid | EngineLost | Undelivered | Terminated | Launch | Tick
RequestMessage: TypeAlias = (
    Accepted | Refused | Delta | Prefilled | InstanceChanged | Terminated | Route | Overdue | Tick
)
