"""All that a request needs of a node, in a test's hands: a placement, doors, and what its client is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from actors import names
from actors.kernel.actor import LoopActor
from actors.kernel.directory import Directory
from actors.kernel.reference import Ref
from actors.messages import (
    Abandon,
    Dispatch,
    DoorMessage,
    PlacementMessage,
    RequestMessage,
)
from actors.outlet import Outlet
from actors.request import Request
from bus.bus import Bus
from bus.messages.base import InstanceId, ModelId, NodeId, RequestId, SequenceId
from bus.messages.engine import Submit
from bus.messages.facts import RequestFact, RequestState
from bus.messages.generation import Delta, Finish, FinishReason, Prompt, TextPrompt
from bus.messages.placement import NotServed, Serving
from bus.messages.request import Order, RequestEvent
from tests.actors.probe import soon

INSTANCE = InstanceId("i")
HELLO = TextPrompt("hello")


class StandIn(LoopActor[PlacementMessage]):
    """A placement that gives the answers that it was told to give, and the last one again and again."""

    def __init__(self, heard: asyncio.Queue[PlacementMessage], *answers: Serving | NotServed) -> None:
        super().__init__()
        self._heard, self._answers = heard, list(answers)

    def on_receive(self, message: PlacementMessage) -> Serving | NotServed:
        self._heard.put_nowait(message)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


class Silent(LoopActor[PlacementMessage]):
    """A placement that is busy with the first thing that it is asked for ever."""

    def __init__(self, asked: asyncio.Event) -> None:
        super().__init__()
        self._asked = asked

    async def on_receive(self, message: PlacementMessage) -> None:
        self._asked.set()
        await asyncio.Event().wait()


class Doorway(LoopActor[DoorMessage]):
    """Keeps what a request says to it."""

    def __init__(self, heard: asyncio.Queue[DoorMessage]) -> None:
        super().__init__()
        self._heard = heard

    def on_receive(self, message: DoorMessage) -> None:
        self._heard.put_nowait(message)


class Stage:
    """All that a request needs of a node, in a test's hands."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.directory = Directory()
        self.heard: asyncio.Queue[DoorMessage] = asyncio.Queue()
        self.outlet = Outlet()
        self._actors: list[Ref[DoorMessage] | Ref[PlacementMessage]] = []
        self._ended = asyncio.Event()

    def placement(self, *answers: Serving | NotServed) -> asyncio.Queue[PlacementMessage]:
        """Returns what it is asked."""
        heard: asyncio.Queue[PlacementMessage] = asyncio.Queue()
        ref = StandIn.start(heard, *answers)
        self.directory.register(names.PLACEMENT, ref)
        self._actors.append(ref)
        return heard

    def door(self, epoch: int) -> Ref[DoorMessage]:
        ref = Doorway.start(self.heard)
        self.directory.register(names.door(INSTANCE, epoch), ref)
        self._actors.append(ref)
        return ref

    def ask(self, n: int = 1, prompt: Prompt = HELLO, timeout_s: float = 60.0) -> Ref[RequestMessage]:
        order = Order(RequestId("r"), ModelId("m"), (prompt,), n=n)
        node = NodeId("n-1")
        self.request = Request.start(
            order, self.outlet, node, self.bus, self.directory, timeout_s, self._ended.set
        )
        return self.request

    def silent_placement(self) -> asyncio.Event:
        """One that takes a question and never answers; returns what is set when it has been asked."""
        asked = asyncio.Event()
        ref = Silent.start(asked)
        self.directory.register(names.PLACEMENT, ref)
        self._actors.append(ref)
        return asked

    async def dispatched(self) -> tuple[Submit, ...]:
        """What the request asks of a door, after what it does not want any more."""
        while True:
            message = await soon(self.heard.get())
            if isinstance(message, Dispatch):
                return message.submits

    async def abandoned(self) -> tuple[SequenceId, ...]:
        message = await soon(self.heard.get())
        assert isinstance(message, Abandon), message
        return message.sequences

    async def events(self) -> list[RequestEvent]:
        """All up to the end."""
        events = [event async for event in self.outlet]
        await soon(self._ended.wait())
        return events

    async def fact(self, state: RequestState, reason: str) -> RequestFact:
        """Wait until it is told of the request."""
        async with asyncio.timeout(10.0):
            changes = self.bus.view.changes()
            while True:
                fact = self.bus.view.facts().get("request/r")
                if isinstance(fact, RequestFact) and (fact.state, fact.reason) == (state, reason):
                    return fact
                await anext(aiter(changes))

    async def clear(self) -> None:
        for ref in self._actors:
            ref.kill("the test is over")
            await ref.ended


@asynccontextmanager
async def on_stage() -> AsyncIterator[Stage]:
    """A stage, on the loop that is bound."""
    bus = await Bus.open(NodeId("n-1"))
    stage = Stage(bus)
    yield stage
    await stage.clear()
    await bus.close()


def say(request: Ref[RequestMessage], *messages: RequestMessage) -> None:
    for message in messages:
        assert request.post(message)


def token(sequence: SequenceId, text: str, identity: int, last: int = 0) -> Delta:
    """`last`: how many tokens the answer has, if this is the last one."""
    finish = Finish(FinishReason.STOP, completion_tokens=last) if last else None
    return Delta(sequence, text=text, tokens=1, finish=finish, ids=(identity,))


def served(epoch: int) -> Serving:
    return Serving(INSTANCE, epoch)
