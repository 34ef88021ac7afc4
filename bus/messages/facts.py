"""The facts that nodes publish: each has one owner, a key, and only its latest value counts."""

from enum import StrEnum
from typing import TypeAlias

from bus.messages.base import InstanceId, Message, ModelId, NodeId, RequestId, Value
from bus.messages.engine import Phase
from bus.messages.placement import Interconnect, Sharding


class Pressure(StrEnum):
    """How short of memory a machine is, as its own system judges it."""

    NORMAL = "normal"
    WARNING = "warning"
    CRITICAL = "critical"
    UNKNOWN = "unknown"


class Memory(Value, frozen=True):
    """A machine's memory, in bytes."""

    total_bytes: int
    available_bytes: int
    pressure: Pressure = Pressure.UNKNOWN
    stalled: float | None = None
    """Share of the last ten seconds in which something waited for memory, 0 to 1 (Linux PSI)."""
    reason: str = ""
    """Why the pressure is not known, where it is not."""


class AcceleratorKind(StrEnum):
    """What MLX can compute on."""

    METAL = "metal"
    CUDA = "cuda"
    CPU = "cpu"


class Accelerator(Value, frozen=True):
    """What MLX computes on here."""

    kind: AcceleratorKind
    name: str
    memory_bytes: int | None = None
    """Memory of its own, or the most of the shared memory that it may use."""
    note: str = ""
    """What would make it faster, for a person to read."""


class NodeFact(Message, frozen=True):
    """One machine; key `node/<id>`."""

    id: NodeId
    name: str
    version: str
    url: str
    """Where its API and page are."""
    started_at: float
    """Seconds since 1970."""
    memory: Memory
    accelerator: Accelerator
    cpu_count: int
    cpu_load: float = 0.0
    """0 to 1 over all cores, in the last second."""
    facts_endpoint: str = ""
    """Where its facts can be subscribed to."""


class ModelFact(Message, frozen=True):
    """A model that a node has in its folders; key `model/<node>/<model>`."""

    id: ModelId
    node: NodeId
    path: str
    size_bytes: int
    architecture: str
    """`model_type` of its config."""
    context: int | None
    """The most tokens that it was made for."""
    created_at: float
    """Seconds since 1970, from its folder."""
    quantization: str = ""
    read_only: bool = False
    built_in: bool = False
    tools: bool = False
    """Its chat template takes tools."""
    problem: str = ""
    """Why it can't be used, and what to do; empty when it can."""


class InstanceFact(Message, frozen=True):
    """A model placed on this cluster and how it is; key `instance/<id>`."""

    id: InstanceId
    epoch: int
    model: ModelId
    nodes: tuple[NodeId, ...]
    phase: Phase
    reason: str
    """What it does, waits for or failed of, and what to do."""
    since: float
    """When this phase began, seconds since 1970."""
    progress: float | None = None
    sharding: Sharding = Sharding.PIPELINE
    interconnect: Interconnect = Interconnect.RING
    context: int | None = None
    restarts: int = 0
    running: int = 0
    prefilling: int = 0
    waiting: int = 0
    kv_bytes: int = 0
    active_bytes: int = 0
    cached_bytes: int = 0
    tokens_per_s: float = 0.0


class RequestState(StrEnum):
    """Where a request is in its life; each ends in exactly one of the last three."""

    WAITING = "waiting"
    PREFILL = "prefill"
    DECODE = "decode"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


class RequestFact(Message, frozen=True):
    """A request under way on the node that took it; key `request/<id>`; withdrawn when it has ended."""

    id: RequestId
    node: NodeId
    model: ModelId
    state: RequestState
    reason: str
    started_at: float
    """Seconds since 1970."""
    sequences: int = 1
    instance: InstanceId | None = None
    prompt_tokens: int = 0
    prefilled_tokens: int = 0
    generated_tokens: int = 0
    tokens_per_s: float = 0.0


Fact: TypeAlias = NodeFact | ModelFact | InstanceFact | RequestFact


# -- how facts travel ----------------------------------------------------------------------------


class Update(Message, frozen=True):
    """The next change of a publisher's facts, numbered without holes; no fact: the key is withdrawn."""

    session: str
    number: int
    key: str
    fact: Fact | None = None


class Head(Message, frozen=True):
    """How far a publisher has counted: bounds how long a lost update can go unseen."""

    session: str
    number: int


class Since(Message, frozen=True):
    """A reader that missed something asks for all after `number`."""

    session: str
    number: int


class Updates(Message, frozen=True):
    """The updates that a reader missed."""

    session: str
    updates: tuple[Update, ...]


class Snapshot(Message, frozen=True):
    """All facts of a publisher, for a reader that is too far behind or new."""

    session: str
    number: int
    facts: dict[str, Fact]


Replication: TypeAlias = Update | Head | Since | Updates | Snapshot
