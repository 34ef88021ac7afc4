"""Nodes and models to plan with."""

from collections.abc import Sequence

from actors.planner.memory import LEAST_FREED
from bus.messages.base import ModelId, NodeId
from bus.messages.facts import Accelerator, AcceleratorKind, Memory, ModelFact, NodeFact, Pressure, Shape
from bus.messages.placement import Interconnect

GIB = 2**30
MODEL = ModelId("a/model")


def node(
    name: str,
    free_gib: float,
    *,
    rate: float = 100.0,
    pressure: Pressure = Pressure.NORMAL,
    accelerator: Accelerator | None = None,
    leaving: bool = False,
    rdma: bool = False,
    kv_memory: int | None = None,
) -> NodeFact:
    """A node of which `free_gib` can be used: what it keeps for others, and of freed memory, is on top."""
    available = int(free_gib * GIB) + LEAST_FREED
    return NodeFact(
        id=NodeId(f"id-{name}"),
        name=name,
        version="0",
        url="",
        started_at=0.0,
        memory=Memory(available_bytes=available, total_bytes=0, pressure=pressure),
        accelerator=accelerator or Accelerator(kind=AcceleratorKind.CPU, name="cpu"),
        cpu_count=8,
        bandwidth_gb_s=rate,
        leaving=leaving,
        backends=(Interconnect.RING, Interconnect.JACCL) if rdma else (Interconnect.RING,),
        kv_memory_bytes=kv_memory,
        backends_note="" if rdma else "run `rdma_ctl enable` in Recovery",
    )


def shape(
    layers: int = 32,
    gib: float = 8.0,
    *,
    heads: int = 32,
    kv_heads: int = 8,
    examined: bool = True,
    pipeline_problem: str = "",
    tensor_problem: str = "",
) -> Shape:
    """A model of equal layers; a token of KV cache takes 128 KiB in 32 of them."""
    return Shape(
        layer_bytes=(int(gib * GIB) // layers,) * layers,
        other_bytes=GIB // 4,
        kv_bytes_per_token=(4096,) * layers,
        heads=heads,
        kv_heads=kv_heads,
        hidden=4096,
        element_bytes=2,
        examined=examined,
        pipeline_problem=pipeline_problem,
        tensor_problem=tensor_problem,
    )


def copies(
    nodes: Sequence[NodeFact], shape: Shape | None, *, context: int | None = 8192, problem: str = ""
) -> list[ModelFact]:
    """A copy of the model on each of these nodes."""
    return [
        ModelFact(
            id=MODEL,
            node=node.id,
            path="",
            size_bytes=0,
            architecture="llama",
            context=context,
            created_at=0.0,
            shape=shape,
            problem=problem,
        )
        for node in nodes
    ]
