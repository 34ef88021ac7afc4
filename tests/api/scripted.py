"""A gateway that plays scripts instead of running models, and a real server in front of it."""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

from actors.gateway import View
from api.server import Server
from api.settings import ApiSettings
from bus.messages.base import InstanceId, ModelId, NodeId, RequestId
from bus.messages.engine import Phase
from bus.messages.facts import (
    Accelerator,
    AcceleratorKind,
    DeclaredFact,
    Fact,
    InstanceFact,
    Memory,
    ModelFact,
    NodeFact,
    RankFact,
    RequestFact,
    RequestState,
)
from bus.messages.generation import Finish, FinishReason, Refusal, RefusalCode
from bus.messages.placement import Instance, Previews, Stage, Term, Wish
from bus.messages.request import Admitted, Chunk, Completed, Failed, Order, RequestEvent, Usage

NODE = NodeId("node-a")
INSTANCE = InstanceId("instance-a")
PROMPT_TOKENS = 7

Say = Callable[[RequestEvent], None]
Script = Callable[[Order, Say], Awaitable[None]]


# -- scripts -------------------------------------------------------------------------------------


def admitted(order: Order) -> Admitted:
    """Every prompt is PROMPT_TOKENS long."""
    return Admitted(INSTANCE, (PROMPT_TOKENS,) * len(order.prompts))


def finish(tokens: int, reason: FinishReason = FinishReason.STOP) -> Finish:
    """The end of an answer."""
    return Finish(reason, tokens)


def completed(order: Order, tokens: int = 2, reasoning: int = 0) -> Completed:
    """The end of a request whose answers have so many tokens each."""
    answers = len(order.prompts) * order.n
    return Completed(Usage(PROMPT_TOKENS * len(order.prompts), tokens * answers, reasoning, 3))


def refused(code: RefusalCode, message: str = "no", **fields: object) -> Failed:
    """The bad end."""
    param, wait = fields.get("param"), fields.get("retry_after_s")
    return Failed(
        Refusal(
            code,
            message,
            param if isinstance(param, str) else None,
            wait if isinstance(wait, float) else None,
        )
    )


async def hello(order: Order, say: Say) -> None:
    """Answer i of all says "Hello i" in two chunks."""
    say(admitted(order))
    answers = range(len(order.prompts) * order.n)
    for index in answers:
        say(Chunk(index, "Hello", generated=1))
    for index in answers:
        say(Chunk(index, f" {index}", generated=2, finish=finish(2)))
    say(completed(order))


async def points(order: Order, say: Say) -> None:
    """The embedding of input i is (3, 4, i); the last is told first."""
    say(admitted(order))
    for index in reversed(range(len(order.prompts))):
        say(Chunk(index, embedding=struct.pack("<3f", 3, 4, index), finish=finish(0)))
    say(Completed(Usage(PROMPT_TOKENS * len(order.prompts), 0)))


async def either(order: Order, say: Say) -> None:
    """Answers, or embeddings."""
    await (points if order.embed else hello)(order, say)


def playing(*events: RequestEvent) -> Script:
    """These events, at once."""

    async def script(_order: Order, say: Say) -> None:
        for event in events:
            say(event)

    return script


def answering(*chunks: Chunk) -> Script:
    """Admitted, these chunks, Completed."""

    async def script(order: Order, say: Say) -> None:
        say(admitted(order))
        for chunk in chunks:
            say(chunk)
        say(completed(order))

    return script


async def silence(_order: Order, _say: Say) -> None:
    """Nothing, for ever."""
    await asyncio.Event().wait()


# -- the gateway ---------------------------------------------------------------------------------


class ScriptedGeneration:
    """Plays its gateway's script; records how it was left."""

    def __init__(self, order: Order, script: Script, deaf: bool) -> None:
        self.request = order.request
        self.order = order
        self.cancels: list[str] = []
        self.left = asyncio.Event()
        self._script = script
        self._deaf = deaf
        self._events: asyncio.Queue[RequestEvent | Exception] = asyncio.Queue()
        self._ended = False
        self._player: asyncio.Task[None] | None = None

    def cancel(self, reason: str) -> None:
        """What the stop button does."""
        if not self._ended and not self._deaf:
            self.cancels.append(reason)
            self._say(Failed(Refusal(RefusalCode.CANCELLED, reason)))

    async def __aenter__(self) -> Self:
        self._player = asyncio.create_task(self._play())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._ended:
            self._ended = True
            self.cancels.append("left")
        if self._player is not None:
            self._player.cancel()
        self.left.set()

    async def __aiter__(self) -> AsyncIterator[RequestEvent]:
        while True:
            event = await self._events.get()
            if isinstance(event, Exception):
                raise event
            yield event
            if isinstance(event, Completed | Failed):
                return

    async def _play(self) -> None:
        try:
            await self._script(self.order, self._say)
        except Exception as error:
            self._events.put_nowait(error)

    def _say(self, event: RequestEvent) -> None:
        if not self._ended:
            self._ended = isinstance(event, Completed | Failed)
            self._events.put_nowait(event)


@dataclass
class ScriptedView:
    """Facts in a dict, and changes on demand."""

    all: dict[str, Fact] = field(default_factory=dict)
    readers: set[asyncio.Queue[tuple[str, Fact | None]]] = field(default_factory=set)
    joined: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    def facts(self) -> dict[str, Fact]:
        return dict(self.all)

    async def changes(self) -> AsyncIterator[tuple[str, Fact | None]]:
        queue: asyncio.Queue[tuple[str, Fact | None]] = asyncio.Queue()
        self.readers.add(queue)
        self.joined.set()
        try:
            while True:
                yield await queue.get()
        finally:
            self.readers.discard(queue)
            self.left.set()

    def change(self, key: str, fact: Fact | None) -> None:
        """Set or withdraw a fact."""
        if fact is None:
            self.all.pop(key, None)
        else:
            self.all[key] = fact
        for queue in self.readers:
            queue.put_nowait((key, fact))


class ScriptedGateway:
    """Opens scripted generations; remembers them in order."""

    def __init__(self, script: Script = hello) -> None:
        self.node = NODE
        self.facts = ScriptedView()
        self.view: View = self.facts
        self.script = script
        self.deaf = False
        """Its generations do not hear a cancel."""
        self.generations: list[ScriptedGeneration] = []
        self.opened: asyncio.Queue[ScriptedGeneration] = asyncio.Queue()
        self.created: list[tuple[Wish, int]] = []
        self.previewed: list[Wish] = []
        self.withdrawn: list[InstanceId] = []
        self.refusal: Refusal | None = None
        """What it says to whoever wants something placed or withdrawn."""
        self.previews = Previews(())

    def open(self, order: Order) -> ScriptedGeneration:
        generation = ScriptedGeneration(order, self.script, self.deaf)
        self.generations.append(generation)
        self.opened.put_nowait(generation)
        return generation

    def cancel(self, request: RequestId, reason: str) -> bool:
        for generation in self.generations:
            if generation.request == request and not generation.left.is_set():
                generation.cancel(reason)
                return True
        return False

    async def create(self, wish: Wish, replicas: int) -> tuple[Instance, ...] | Refusal:
        self.created.append((wish, replicas))
        return self.refusal or tuple(instance(f"new-{n}", wish) for n in range(replicas))

    async def preview(self, wish: Wish) -> Previews | Refusal:
        self.previewed.append(wish)
        return self.refusal or self.previews

    async def withdraw(self, instance: InstanceId) -> Refusal | None:
        self.withdrawn.append(instance)
        return self.refusal

    @property
    def order(self) -> Order:
        """The latest."""
        return self.generations[-1].order


@asynccontextmanager
async def serving(gateway: ScriptedGateway, settings: ApiSettings | None = None) -> AsyncIterator[str]:
    """A server on a free port, stopped at the end."""
    server = Server(gateway, replace(settings or ApiSettings(), port=0))
    url = await server.start()
    try:
        yield url
    finally:
        await server.stop()


# -- facts ---------------------------------------------------------------------------------------


def model_fact(name: str, node: NodeId = NODE, created_at: float = 1_795_220_000.0) -> ModelFact:
    """A small llama."""
    return ModelFact(ModelId(name), node, f"/models/{name}", 1_000, "llama", 2048, created_at)


def node_fact(id: NodeId = NODE, name: str = "a") -> NodeFact:
    """A machine of 16 GB, half of it free."""
    memory = Memory(16_000_000_000, 8_000_000_000)
    accelerator = Accelerator(AcceleratorKind.CPU, "some processor")
    return NodeFact(id, name, "1.0", "http://127.0.0.1:1", 1_795_220_000.0, memory, accelerator, 2)


def instance(
    id: str = INSTANCE, wish: Wish | None = None, epoch: int = 1, nodes: tuple[NodeId, ...] = (NODE,)
) -> Instance:
    """Two layers on each of these nodes, one stage after another."""
    stages = tuple(Stage(2 * index, 2 * index + 2, (node,), 1000) for index, node in enumerate(nodes))
    model = wish.model if wish is not None else ModelId("m")
    return Instance(InstanceId(id), epoch, model, stages, 2048, wish=wish)


def instance_fact(
    phase: Phase = Phase.READY, reason: str = "", epoch: int = 1, nodes: tuple[NodeId, ...] = (NODE,)
) -> InstanceFact:
    """An instance of the model "m"."""
    began = 1_795_220_000.0
    return InstanceFact(INSTANCE, epoch, ModelId("m"), nodes, phase, reason, began, kv_bytes=4096)


def rank_fact(rank: int, node: NodeId, phase: Phase = Phase.READY, epoch: int = 1) -> RankFact:
    """A rank of that instance."""
    return RankFact(INSTANCE, epoch, rank, node, phase, "", active_bytes=7)


def declared_fact(
    instance: Instance,
    term: Term,
    reason: str = "",
    withdrawn: bool = False,
    successor: Instance | None = None,
) -> DeclaredFact:
    """A coordinator's word."""
    return DeclaredFact(instance, term, reason, withdrawn, successor, at=1_795_220_000.0)


def request_fact(name: str, state: RequestState = RequestState.DECODE) -> RequestFact:
    """A request to the model "m"."""
    return RequestFact(RequestId(name), NODE, ModelId("m"), state, "", 1_795_220_000.0)
