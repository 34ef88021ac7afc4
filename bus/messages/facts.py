"""The facts that nodes publish: each has one owner, a key, and only its latest value counts."""

from enum import StrEnum
from typing import TypeAlias

from bus.messages.base import InstanceId, Message, ModelId, NodeId, RequestId, Value
from bus.messages.engine import Phase
from bus.messages.placement import Instance, Interconnect, Sharding, Stage, Term, Wish


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
    """Where its facts can be subscribed to on its own machine."""
    address: str = ""
    """HOST:PORT of its bus, for other nodes."""
    gigaflops: float = 0.0
    """10^9 operations per second in an f32 matrix product; 0: not measured yet."""
    bandwidth_gb_s: float = 0.0
    """10^9 bytes of weights that a matrix-vector product reads per second; 0: not measured yet."""
    leaving: bool = False
    """It is about to stop: nothing new is placed on it, and what it runs moves away."""
    backends: tuple[Interconnect, ...] = (Interconnect.RING,)
    """What can carry tensors between it and others."""
    backends_note: str = ""
    """Why an interconnect that people ask for is not among them."""
    rdma_devices: tuple[str, ...] = ()
    """Those that are active."""
    kv_memory_bytes: int | None = None
    """KV cache of all models on it at most, as a person said; None: what its memory allows."""


class Shape(Value, frozen=True):
    """A model's shape, as far as it matters for dividing it."""

    layer_bytes: tuple[int, ...]
    """Weights of each layer, as they are stored."""
    other_bytes: int
    """Weights outside the layers: embeddings, final norm, head."""
    kv_bytes_per_token: tuple[int, ...]
    """What each layer keeps per token of context, at most."""
    heads: int
    kv_heads: int
    hidden: int
    element_bytes: int
    """Bytes of a number in hidden states and KV cache."""
    examined: bool = False
    """Whether the next three are known; they take a few seconds to find out."""
    pipeline_problem: str = ""
    """Why it can't be divided into stages; empty: it can."""
    tensor_problem: str = ""
    """Why its layers can't be divided; empty: they can, as far as its heads allow."""
    kv_divides: bool = True
    """Tensor ranks share the KV cache out by heads; False: each keeps all of it, as with latent attention."""
    active_bytes: tuple[int, ...] = ()
    """Of each layer's weights, what a token reads (some of a mixture's experts); empty: all."""
    vocabulary: int | None = None
    """Rows of its table of tokens, which may be more than it has tokens; None: not known."""
    kv_quant_problem: str = ""
    """Why its KV cache can't be kept with fewer bits, once examined; empty: it can."""


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
    embeds: bool = False
    """It was made for embeddings."""
    problem: str = ""
    """Why it can't be used, and what to do; empty when it can."""
    shape: Shape | None = None
    """What placing it needs to know; None: it can't be used."""
    folder_mark: str = ""
    """Changes when the folder's files do."""


class InstanceFact(Message, frozen=True):
    """A placed model and how it is, told by its rank 0; key `instance/<id>/<epoch>`."""

    id: InstanceId
    epoch: int
    model: ModelId
    nodes: tuple[NodeId, ...]
    """In rank order."""
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
    stages: tuple[Stage, ...] = ()
    kv_limit_bytes: int = 0
    """As in Beat, and so are the next seven."""
    prefix_bytes: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    preempted: int = 0
    trails: tuple[int, ...] = ()
    kv_bits: int | None = None
    """As in Load."""
    draft: ModelId | None = None
    """The small model that guesses ahead; None: guesses are looked up in the text so far."""


class RankFact(Message, frozen=True):
    """A rank of an instance that has several; key `rank/<instance>/<epoch>/<rank>/<node>`."""

    instance: InstanceId
    epoch: int
    rank: int
    node: NodeId
    phase: Phase
    reason: str
    progress: float | None = None
    hop: str = ""
    """Where its engine takes hidden states from other ranks: an endpoint, once it listens."""
    ring: str = ""
    """HOST:PORT of its place in its stage's tensor group."""
    permanent: bool = False
    """With `failed`: another try on the same nodes will fail as well."""
    active_bytes: int = 0
    kv_bytes: int = 0
    kv_budget_bytes: int = 0
    """What this rank's node has for KV cache; 0: not known yet."""
    kept: str = ""
    """As in Bound."""
    cached_bytes: int = 0
    """As in Beat, and so is the next."""
    prefix_bytes: int = 0


class DeclaredFact(Message, frozen=True):
    """What a coordinator has declared of an instance, as a node knows it; key `declared/<node>/<instance>`.

    The acting coordinator tells all that is declared; another node, what the coordinator does not know yet.
    Of two declarations the one with the higher (epoch, term) counts, wherever it comes from.
    """

    instance: Instance
    term: Term
    reason: str = ""
    """Why it is in this epoch, or why it has no place."""
    withdrawn: bool = False
    successor: Instance | None = None
    """The next epoch, being prepared beside this one; it takes over when it is ready."""
    at: float = 0.0
    """When it was declared, seconds since 1970."""
    given_up: bool = False
    """It is not tried again before its nodes or its files change."""


class WishFact(Message, frozen=True):
    """What a node was started to serve; key `wish/<node>`. The coordinator places what is not placed yet."""

    node: NodeId
    since: float
    """When the node was started, seconds since 1970: what was declared later has seen this wish."""
    wishes: tuple[Wish, ...]


class CoordinatorFact(Message, frozen=True):
    """This node is the coordinator; key `coordinator/<node>`."""

    node: NodeId
    term: Term
    since: float


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
    cached_tokens: int = 0
    """Of the prompt: kept from before."""
    place: int | None = None
    """How many sequences are before it in the engine's line; None: it stands in none."""
    eta_s: float | None = None
    """Until its prompt is computed."""
    priority: int = 0


Fact: TypeAlias = (
    NodeFact | ModelFact | InstanceFact | RankFact | DeclaredFact | WishFact | CoordinatorFact | RequestFact
)


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
