"""The conversation about which model runs where: wishes, choices, declared instances, and who serves."""

from enum import StrEnum
from typing import TypeAlias

from bus.messages.base import InstanceId, Message, ModelId, NodeId, Value
from bus.messages.generation import Refusal


class Sharding(StrEnum):
    """How a model is divided over ranks."""

    PIPELINE = "pipeline"
    TENSOR = "tensor"
    HYBRID = "hybrid"
    """Tensor inside a stage, pipeline between stages."""


class Interconnect(StrEnum):
    """What carries tensors between ranks; chosen apart from the sharding."""

    RING = "ring"
    JACCL = "jaccl"


class Stage(Value, frozen=True):
    """A run of layers, held by one node or divided over several."""

    first: int
    """Its first layer."""
    end: int
    """The layer after its last."""
    nodes: tuple[NodeId, ...]
    """Its tensor ranks, in order; one node: the stage is not divided."""
    needed_bytes: int = 0
    """What each of its nodes is reckoned to hold at most: weights, KV cache and room to compute in."""


class Wish(Value, frozen=True):
    """What somebody wants placed; what is None or empty is left to the placement."""

    model: ModelId
    sharding: Sharding | None = None
    interconnect: Interconnect | None = None
    nodes: tuple[NodeId, ...] = ()
    """Ids in rank order: all tensor ranks of the first stage, then those of the next."""
    layers: tuple[int, ...] = ()
    """How many layers each stage has."""
    stages: int | None = None
    tensor: int | None = None
    """Ranks per stage."""
    context: int | None = None
    """The longest prompt and answer together, in tokens."""
    kv_bits: int | None = None
    """As in Load."""
    kv_bytes: int | None = None
    """KV cache on each node at most; None: what its memory allows."""
    draft: ModelId | None = None
    """A small model with the same tokens that guesses ahead, on rank 0's node."""
    speculate: bool = True
    """As in Load."""


class Instance(Value, frozen=True):
    """A model placed on nodes: declared by the coordinator, held by all, carried out by the nodes' Runners.

    Rank r is tensor rank r % T of stage r // T, where every stage has T nodes. Without stages it is wanted,
    but there is no place for it.
    """

    id: InstanceId
    epoch: int
    """Counts its placements: a change of nodes, layers or connections is a new one."""
    model: ModelId
    stages: tuple[Stage, ...]
    context: int
    """The longest prompt and answer together, in tokens."""
    sharding: Sharding = Sharding.PIPELINE
    interconnect: Interconnect = Interconnect.RING
    wish: Wish | None = None
    """What it was made from; None: it was asked for by a request or at a node's start."""
    kv_bits: int | None = None
    """As in Wish, and so are the next three."""
    kv_bytes: int | None = None
    draft: ModelId | None = None
    speculate: bool = True
    ordinal: int = 0
    """Counts a model's instances: no two that are declared at once have the same. What outlives an engine is
    found again by it."""

    @property
    def nodes(self) -> tuple[NodeId, ...]:
        """In rank order."""
        return tuple(node for stage in self.stages for node in stage.nodes)

    @property
    def tensor(self) -> int:
        """Ranks per stage."""
        return len(self.stages[0].nodes) if self.stages else 0

    def rank_of(self, node: NodeId) -> int | None:
        """The rank that a node holds; None: it holds none."""
        return self.nodes.index(node) if node in self.nodes else None


class Term(Value, frozen=True, order=True):
    """A coordinator's time in office: numbers grow, and no two nodes have the same one."""

    number: int = 0
    node: NodeId = NodeId("")


class Choice(Value, frozen=True):
    """One way to place a wish, and how good it is."""

    stages: tuple[Stage, ...]
    sharding: Sharding
    interconnect: Interconnect
    context: int
    score: float
    """Tokens per second that are expected of one stream; for comparison only."""
    why: str
    """One line for a person to read."""


class Ruled(Value, frozen=True):
    """One way that is out of the question, and why, for a person to read."""

    what: str
    why: str


class Previews(Value, frozen=True):
    """All that was weighed for a wish, best first."""

    choices: tuple[Choice, ...]
    ruled_out: tuple[Ruled, ...] = ()


# -- between a request and the placement of its node -----------------------------------------------


class Want(Message, frozen=True):
    """Where a request for this model goes; answered by Serving or NotServed."""

    model: ModelId
    trail: tuple[int, ...] = ()
    """How the prompt begins, as `bus.trail` spells it: who has kept that is preferred."""
    sequences: int = 1
    """How many it brings."""


class Serving(Message, frozen=True):
    """This instance serves the model, now or as soon as it is ready."""

    instance: InstanceId
    epoch: int


class NotServed(Message, frozen=True):
    """Nothing serves the model, and why."""

    refusal: Refusal
    unplaced: bool = False
    """Nobody has asked the coordinator for it yet."""


# -- to the coordinator ----------------------------------------------------------------------------


class Create(Message, frozen=True):
    """Place this wish so many times; answered by Created. With `once`: unless its model is placed already."""

    wish: Wish
    replicas: int = 1
    once: bool = False


class Created(Message, frozen=True):
    """What was declared."""

    instances: tuple[Instance, ...]


class Withdraw(Message, frozen=True):
    """Have an instance run no more: its requests end first, within a limit, or move to another one."""

    instance: InstanceId


ToCoordinator: TypeAlias = Create | Withdraw
