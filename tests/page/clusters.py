"""Facts of made-up clusters, for the page to show."""

import time

from bus.messages.base import InstanceId, ModelId, NodeId, RequestId
from bus.messages.engine import Phase
from bus.messages.facts import (
    Accelerator,
    AcceleratorKind,
    CoordinatorFact,
    DeclaredFact,
    Fact,
    InstanceFact,
    Memory,
    ModelFact,
    NodeFact,
    Pressure,
    RankFact,
    RequestFact,
    RequestState,
    WishFact,
)
from bus.messages.placement import Choice, Instance, Interconnect, Sharding, Stage, Term

GIB = 2**30
HERE = NodeId("n1")
GUIDE = ModelId("guide")


def node(
    id: NodeId = HERE,
    name: str = "study",
    pressure: Pressure = Pressure.NORMAL,
    reason: str = "",
    available_bytes: int = 14 * GIB,
    leaving: bool = False,
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
        address="192.168.1.20:52416",
        gigaflops=412.3,
        bandwidth_gb_s=38.4,
        leaving=leaving,
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
    epoch: int = 1,
    nodes: tuple[NodeId, ...] = (HERE,),
) -> InstanceFact:
    """The built-in model on this machine, unless told otherwise."""
    return InstanceFact(
        id=InstanceId(id),
        epoch=epoch,
        model=model,
        nodes=nodes,
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


def stages(*grid: tuple[NodeId, ...], layers: int = 4) -> tuple[Stage, ...]:
    """One stage per entry, so many layers each, held by the nodes of the entry."""
    return tuple(
        Stage(number * layers, (number + 1) * layers, group, GIB) for number, group in enumerate(grid)
    )


def declared(
    placed: tuple[Stage, ...],
    id: str = "i1",
    epoch: int = 1,
    sharding: Sharding = Sharding.PIPELINE,
    term: int = 1,
    successor: tuple[Stage, ...] = (),
    withdrawn: bool = False,
) -> DeclaredFact:
    """What this machine, as coordinator, has declared of the built-in model."""

    def of(number: int, where: tuple[Stage, ...]) -> Instance:
        return Instance(InstanceId(id), number, GUIDE, where, 2048, sharding)

    return DeclaredFact(
        instance=of(epoch, placed),
        term=Term(term, HERE),
        withdrawn=withdrawn,
        successor=of(epoch + 1, successor) if successor else None,
        at=time.time(),
    )


def rank(
    number: int,
    node: NodeId,
    phase: Phase = Phase.READY,
    reason: str = "ready",
    progress: float | None = None,
    epoch: int = 1,
) -> RankFact:
    """One rank of the built-in model."""
    return RankFact(InstanceId("i1"), epoch, number, node, phase, reason, progress, active_bytes=GIB)


def coordinator(node: NodeId = HERE, term: int = 1) -> CoordinatorFact:
    """That machine decides."""
    return CoordinatorFact(node, Term(term, node), time.time())


def choice(*grid: tuple[NodeId, ...], why: str, sharding: Sharding = Sharding.PIPELINE) -> Choice:
    """A way to place a model."""
    return Choice(stages(*grid), sharding, Interconnect.RING, 2048, 31.0, why)


def key_of(fact: Fact) -> str:
    """The key under which a fact is published; declarations are this machine's."""
    match fact:
        case NodeFact():
            return f"node/{fact.id}"
        case ModelFact():
            return f"model/{fact.node}/{fact.id}"
        case InstanceFact():
            return f"instance/{fact.id}/{fact.epoch}"
        case RankFact():
            return f"rank/{fact.instance}/{fact.epoch}/{fact.rank}/{fact.node}"
        case DeclaredFact():
            return f"declared/{HERE}/{fact.instance.id}"
        case WishFact():
            return f"wish/{fact.node}"
        case CoordinatorFact():
            return f"coordinator/{fact.node}"
        case RequestFact():
            return f"request/{fact.id}"
