"""One message of every type, with a value in every field."""

from bus.messages.base import InstanceId, Message, ModelId, NodeId, RequestId, SequenceId
from bus.messages.engine import (
    Accepted,
    Beat,
    Cancel,
    Hello,
    Load,
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
    Fact,
    Head,
    InstanceFact,
    Memory,
    ModelFact,
    NodeFact,
    Pressure,
    RequestFact,
    RequestState,
    Since,
    Snapshot,
    Update,
    Updates,
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
from bus.messages.placement import (
    Declared,
    Instance,
    Interconnect,
    NotServed,
    Serving,
    Sharding,
    Want,
    Withdrawn,
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
DELTA = Delta(SequenceId("s-1"), "é", "so", (TOOL_CALL,), 3, (LOGPROB,), FINISH)

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
)
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
SUBMIT = Submit(SequenceId("s-1"), CHAT, SAMPLING, STOPPING, 3, True)

PLACED = Instance(
    id=InstanceId("i-1"),
    epoch=2,
    model=ModelId("org/name"),
    path="models/name",
    nodes=(NodeId("n-1"), NodeId("n-2")),
    context=4096,
    needed_bytes=2**30,
    sharding=Sharding.HYBRID,
    interconnect=Interconnect.JACCL,
)

EXAMPLES: tuple[Message, ...] = (
    Want(ModelId("org/name"), 4096),
    Serving(InstanceId("i-1")),
    NotServed(REFUSAL),
    Declared(PLACED),
    Withdrawn(InstanceId("i-1")),
    CHAT,
    TextPrompt("Once upon a time"),
    TokenPrompt((1, 2, 2**31)),
    Load("models/name", 4096, 8, 0.1),
    SUBMIT,
    Cancel((SequenceId("s-1"), SequenceId("s-2"))),
    Shutdown(),
    Hello(4711, 1, {"mlx": "0.32"}),
    PhaseChange(Phase.READY, "ready", 1.0, 4096),
    Accepted(SequenceId("s-1"), 10),
    Refused(SequenceId("s-1"), REFUSAL),
    Step(9, (DELTA,), (Prefilled(SequenceId("s-2"), 512, 4000),)),
    Beat(9, 1, 2, 3, 4, 5, 6, 7.5),
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
    Reply(1, REFUSAL),
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
