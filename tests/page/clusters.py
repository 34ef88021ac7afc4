"""Facts of made-up clusters, for the page to show."""

import time

from bus.messages.base import InstanceId, ModelId, NodeId, RequestId
from bus.messages.engine import Phase
from bus.messages.facts import (
    Accelerator,
    AcceleratorKind,
    Fact,
    InstanceFact,
    Memory,
    ModelFact,
    NodeFact,
    Pressure,
    RequestFact,
    RequestState,
)

GIB = 2**30
HERE = NodeId("n1")
GUIDE = ModelId("guide")


def node(
    id: NodeId = HERE,
    name: str = "study",
    pressure: Pressure = Pressure.NORMAL,
    reason: str = "",
    available_bytes: int = 14 * GIB,
) -> NodeFact:
    """A small Linux machine that computes on its processor."""
    return NodeFact(
        id=id,
        name=name,
        version="0.1.0",
        url="http://127.0.0.1:52415",
        started_at=time.time() - 7500,
        memory=Memory(
            total_bytes=24 * GIB, available_bytes=available_bytes, pressure=pressure, reason=reason
        ),
        accelerator=Accelerator(
            kind=AcceleratorKind.CPU,
            name="AMD Ryzen 7",
            note="Install libopenblas0 and prefill gets many times faster.",
        ),
        cpu_count=16,
        cpu_load=0.23,
    )


def model(id: ModelId = GUIDE, node: NodeId = HERE, problem: str = "") -> ModelFact:
    """A model in the store; the built-in one unless told otherwise."""
    return ModelFact(
        id=id,
        node=node,
        path=f"/models/{id}",
        size_bytes=7_300_000,
        architecture="llama",
        context=2048,
        created_at=time.time(),
        built_in=id == GUIDE,
        tools=True,
        problem=problem,
    )


def instance(
    phase: Phase = Phase.READY,
    reason: str = "Ready",
    progress: float | None = None,
    running: int = 0,
    waiting: int = 0,
    tokens_per_s: float = 0.0,
    id: str = "i1",
    model: ModelId = GUIDE,
) -> InstanceFact:
    """The built-in model on this machine."""
    return InstanceFact(
        id=InstanceId(id),
        epoch=1,
        model=model,
        nodes=(HERE,),
        phase=phase,
        reason=reason,
        since=time.time() - 75,
        progress=progress,
        context=2048,
        running=running,
        waiting=waiting,
        kv_bytes=running * 12_000_000,
        active_bytes=2 * GIB,
        cached_bytes=GIB // 2,
        tokens_per_s=tokens_per_s,
    )


def request(
    id: str = "chatcmpl-1",
    state: RequestState = RequestState.DECODE,
    reason: str = "decoding",
    started_at: float | None = None,
    prefilled_tokens: int = 120,
    generated_tokens: int = 45,
    tokens_per_s: float = 31.24,
) -> RequestFact:
    """Somebody waits for an answer."""
    return RequestFact(
        id=RequestId(id),
        node=HERE,
        model=GUIDE,
        state=state,
        reason=reason,
        started_at=time.time() - 12 if started_at is None else started_at,
        instance=InstanceId("i1"),
        prompt_tokens=120,
        prefilled_tokens=prefilled_tokens,
        generated_tokens=generated_tokens,
        tokens_per_s=tokens_per_s,
    )


def key_of(fact: Fact) -> str:
    """The key under which a fact is published."""
    match fact:
        case NodeFact():
            return f"node/{fact.id}"
        case ModelFact():
            return f"model/{fact.node}/{fact.id}"
        case InstanceFact():
            return f"instance/{fact.id}"
        case RequestFact():
            return f"request/{fact.id}"
