"""One message of every type, with a value in every field."""

from bus.messages.base import InstanceId, Message, ModelId, NodeId, RequestId, SequenceId
from bus.messages.engine import (
    Accepted,
    Beat,
    Bound,
    Cancel,
    Connect,
    Hello,
    Load,
    Part,
    Phase,
    PhaseChange,
    Prefilled,
    Refused,
    Shutdown,
    Step,
    Submit,
)
from bus.messages.envelope import Command, Notice, Passed, Reply
from bus.messages.facts import (
    Accelerator,
    AcceleratorKind,
    CoordinatorFact,
    DeclaredFact,
    Fact,
    Head,
    InstanceFact,
    Memory,
    ModelFact,
    NodeFact,
    Pressure,
    RankFact,
    RequestFact,
    RequestState,
    Shape,
    Since,
    Snapshot,
    Update,
    Updates,
    WishFact,
)
from bus.messages.generation import (
    ChatMessage,
    ChatPrompt,
    Delta,
    Finish,
    FinishReason,
    Refusal,
    RefusalCode,
    Sampling,
    Stopping,
    TextPrompt,
    TokenLogprob,
    TokenPrompt,
    ToolCall,
    TopLogprob,
)
from bus.messages.peers import Abandoned, Audit, Audited, Dispatched, Greeting, Relayed
from bus.messages.placement import (
    Create,
    Created,
    Instance,
    Interconnect,
    NotServed,
    Serving,
    Sharding,
    Stage,
    Term,
    Want,
    Wish,
    Withdraw,
)
from bus.messages.request import Admitted, Chunk, Completed, Failed, Order, Usage, Waiting

TOOL_CALL = ToolCall("call-1", "weather", '{"town": "Zürich"}')
CHAT = ChatPrompt(
    messages=(
        ChatMessage("system", "Be kind."),
        ChatMessage("assistant", None, reasoning="Hm.", name="a", tool_calls=(TOOL_CALL,)),
        ChatMessage("tool", "12 °C", tool_call_id="call-1"),
    ),
    tools=('{"type": "function"}',),
    template_options='{"enable_thinking": false}',
)
SAMPLING = Sampling(0.5, 0.9, 40, 0.1, 1.1, 0.2, 0.3, {7: -100.0, 9: 2.5}, 2**40)
STOPPING = Stopping(100, ("\n\n", "ende"), ignore_eos=True)
LOGPROB = TokenLogprob(5, "é", b"\xc3\xa9", -0.25, (TopLogprob(6, "", b"\xc3", -1.5),))
FINISH = Finish(FinishReason.TOOL_CALLS, 12, 4, "ende")
REFUSAL = Refusal(RefusalCode.OVERLOADED, "Full: try later.", "prompt", 2.5)
DELTA = Delta(SequenceId("s-1"), "é", "so", (TOOL_CALL,), 3, (LOGPROB,), FINISH, (7, 8, 9))

NODE = NodeFact(
    id=NodeId("n-1"),
    name="attic",
    version="0.1",
    url="http://127.0.0.1:52415",
    started_at=1e9,
    memory=Memory(2**34, 2**33, Pressure.WARNING, 0.25, "low"),
    accelerator=Accelerator(AcceleratorKind.CPU, "a CPU", 2**34, "install OpenBLAS"),
    cpu_count=8,
    cpu_load=0.5,
    facts_endpoint="tcp://127.0.0.1:1",
    address="192.0.2.1:52416",
    gigaflops=100.5,
    bandwidth_gb_s=20.5,
    leaving=True,
    backends=(Interconnect.RING, Interconnect.JACCL),
    backends_note="there is RDMA",
)
MODEL = ModelFact(
    id=ModelId("org/name"),
    node=NodeId("n-1"),
    path="models/name",
    size_bytes=2**20,
    architecture="llama",
    context=4096,
    created_at=1e9,
    quantization="4bit",
    read_only=True,
    built_in=True,
    tools=True,
    problem="broken: fetch it again",
    shape=Shape((100, 100), 50, (4, 4), 8, 2, 64, 2, True, "no stages", "no parts"),
    folder_mark="1/2",
)
STAGES = (Stage(0, 4, (NodeId("n-1"),), 2**20), Stage(4, 8, (NodeId("n-2"),), 2**21))
INSTANCE = InstanceFact(
    id=InstanceId("i-1"),
    epoch=2,
    model=ModelId("org/name"),
    nodes=(NodeId("n-1"), NodeId("n-2")),
    phase=Phase.LOADING,
    reason="layer 3 of 8",
    since=1e9,
    progress=0.375,
    sharding=Sharding.TENSOR,
    interconnect=Interconnect.JACCL,
    context=4096,
    restarts=1,
    running=2,
    prefilling=3,
    waiting=4,
    kv_bytes=5,
    active_bytes=6,
    cached_bytes=7,
    tokens_per_s=8.5,
    stages=STAGES,
)
REQUEST = RequestFact(
    id=RequestId("chatcmpl-1"),
    node=NodeId("n-1"),
    model=ModelId("org/name"),
    state=RequestState.DECODE,
    reason="decoding",
    started_at=1e9,
    sequences=2,
    instance=InstanceId("i-1"),
    prompt_tokens=10,
    prefilled_tokens=9,
    generated_tokens=8,
    tokens_per_s=7.5,
)
UPDATE = Update("n-1/1", 7, "node/n-1", NODE)
FACTS: dict[str, Fact] = {
    "node/n-1": NODE,
    "model/n-1/m": MODEL,
    "instance/i-1": INSTANCE,
    "request/1": REQUEST,
}
SUBMIT = Submit(SequenceId("s-1"), CHAT, SAMPLING, STOPPING, 3, True, (7, 8))

WISH = Wish(
    model=ModelId("org/name"),
    sharding=Sharding.PIPELINE,
    interconnect=Interconnect.RING,
    nodes=(NodeId("n-1"), NodeId("n-2")),
    layers=(4, 4),
    stages=2,
    tensor=1,
    context=4096,
)
PLACED = Instance(
    id=InstanceId("i-1"),
    epoch=2,
    model=ModelId("org/name"),
    stages=STAGES,
    context=4096,
    sharding=Sharding.HYBRID,
    interconnect=Interconnect.JACCL,
    wish=WISH,
)
RANK = RankFact(
    instance=InstanceId("i-1"),
    epoch=2,
    rank=1,
    node=NodeId("n-2"),
    phase=Phase.CONNECTING,
    reason="waits for rank 0",
    progress=0.5,
    hop="tcp://192.0.2.2:1",
    ring="192.0.2.2:2",
    permanent=True,
    active_bytes=3,
    kv_bytes=4,
)
DECLARED = DeclaredFact(PLACED, Term(3, NodeId("n-1")), "n-3 left", True, PLACED, 1e9)

EXAMPLES: tuple[Message, ...] = (
    Want(ModelId("org/name"), 4096),
    Serving(InstanceId("i-1"), 2),
    NotServed(REFUSAL),
    Create(WISH, 2, True),
    Created((PLACED,)),
    Withdraw(InstanceId("i-1")),
    Greeting(NodeId("n-1"), "attic", "0.1", 1e9, 1, 2, 3, {NodeId("n-2"): "192.0.2.2:1"}),
    Dispatched(InstanceId("i-1"), 2, (SUBMIT,)),
    Abandoned(InstanceId("i-1"), 2, (SequenceId("s-1"),)),
    Relayed(
        instance=InstanceId("i-1"),
        epoch=2,
        changed=PhaseChange(Phase.READY, "ready", 1.0, 4096),
        accepted=(Accepted(SequenceId("s-1"), 10),),
        prefilled=(Prefilled(SequenceId("s-2"), 512, 4000),),
        deltas=(DELTA,),
        refused=(Refused(SequenceId("s-1"), REFUSAL),),
        envoy="e-1",
        number=7,
    ),
    Audit(InstanceId("i-1"), 2),
    Audited("e-1", 7),
    RANK,
    DECLARED,
    WishFact(NodeId("n-1"), 1e9, (WISH,)),
    CoordinatorFact(NodeId("n-1"), Term(3, NodeId("n-1")), 1e9),
    Connect(("tcp://192.0.2.1:1", "tcp://192.0.2.2:1"), ("192.0.2.1:2", "192.0.2.2:2")),
    Bound("tcp://192.0.2.1:1", "192.0.2.1:2"),
    CHAT,
    TextPrompt("Once upon a time"),
    TokenPrompt((1, 2, 2**31)),
    Load("models/name", 4096, 8, 0.1, Part(1, ((0, 4), (4, 8)), 1, Interconnect.RING, "192.0.2.1")),
    SUBMIT,
    Cancel((SequenceId("s-1"), SequenceId("s-2"))),
    Shutdown(),
    Hello(4711, 1, {"mlx": "0.32"}),
    PhaseChange(Phase.READY, "ready", 1.0, 4096),
    Accepted(SequenceId("s-1"), 10),
    Refused(SequenceId("s-1"), REFUSAL),
    Step(9, (DELTA,), (Prefilled(SequenceId("s-2"), 512, 4000),)),
    Beat(9, 1, 2, 3, 4, 5, 6, 7.5, "rank 1"),
    NODE,
    MODEL,
    INSTANCE,
    REQUEST,
    UPDATE,
    Head("n-1/1", 7),
    Since("n-1/1", 6),
    Updates("n-1/1", (UPDATE, Update("n-1/1", 8, "node/n-1"))),
    Snapshot("n-1/1", 8, FACTS),
    Command(1, 5.0, SUBMIT),
    Reply(1, REFUSAL, Created((PLACED,))),
    Notice(Step(1, (DELTA,))),
    Passed("engine i-1", True, "Step", 300),
    Order(
        request=RequestId("chatcmpl-1"),
        model=ModelId("org/name"),
        prompts=(CHAT, TextPrompt("x")),
        n=2,
        sampling=SAMPLING,
        stopping=STOPPING,
        logprobs=3,
        echo=True,
        timeout_s=9.5,
    ),
    Waiting("loading", 1, 2),
    Admitted(InstanceId("i-1"), (10, 12)),
    Chunk(1, "é", "so", (TOOL_CALL,), (LOGPROB,), 3, FINISH),
    Completed(Usage(1, 2, 3, 4)),
    Failed(REFUSAL),
)


def request(number: int, *, tokens: int = 0) -> RequestFact:
    """A fact that is easily told from others."""
    return RequestFact(
        RequestId(f"r-{number}"),
        NodeId("n-1"),
        ModelId("m"),
        RequestState.DECODE,
        "decoding",
        0.0,
        generated_tokens=tokens,
    )
