"""The conversation about which model runs where: wishes, declared instances, and who serves a model."""

from enum import StrEnum

from bus.messages.base import InstanceId, Message, ModelId, NodeId, Value
from bus.messages.generation import Refusal


class Sharding(StrEnum):
    """How a model is divided over ranks."""

    PIPELINE = "pipeline"
    TENSOR = "tensor"
    HYBRID = "hybrid"


class Interconnect(StrEnum):
    """What carries tensors between ranks; chosen apart from the sharding."""

    RING = "ring"
    JACCL = "jaccl"


class Instance(Value, frozen=True):
    """A model placed on nodes: declared by the coordinator, carried out by the nodes' Runners."""

    id: InstanceId
    epoch: int
    model: ModelId
    path: str
    """The model's folder on this node."""
    nodes: tuple[NodeId, ...]
    """In rank order."""
    context: int
    """The longest prompt and answer together, in tokens."""
    needed_bytes: int
    """What it is reckoned to hold at most: weights, KV cache and room to compute in."""
    sharding: Sharding = Sharding.PIPELINE
    interconnect: Interconnect = Interconnect.RING


class Want(Message, frozen=True):
    """Have this model placed, if it is not; answered by Serving or NotServed."""

    model: ModelId
    context: int | None = None


class Serving(Message, frozen=True):
    """This instance serves the model, now or as soon as it is ready."""

    instance: InstanceId


class NotServed(Message, frozen=True):
    """Nothing serves the model, and why."""

    refusal: Refusal


class Declared(Message, frozen=True):
    """An instance is to run here."""

    instance: Instance


class Withdrawn(Message, frozen=True):
    """An instance is to run no more."""

    instance: InstanceId
