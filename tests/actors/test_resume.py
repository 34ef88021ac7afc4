"""A request whose engine is lost goes on with another: its client sees a pause, and every token once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from actors import names
from actors.kernel.actor import LoopActor
from actors.kernel.directory import Directory
from actors.kernel.reference import Ref
from actors.messages import (
    Abandon,
    Dispatch,
    DoorMessage,
    InstanceChanged,
    PlacementMessage,
    RequestMessage,
)
from actors.outlet import Outlet
from actors.request import Request
from bus.bus import Bus
from bus.messages.base import InstanceId, ModelId, NodeId, RequestId, SequenceId
from bus.messages.engine import Accepted, Phase, Prefilled, Queued, Refused, Submit
from bus.messages.facts import RequestFact, RequestState
from bus.messages.generation import Delta, Finish, FinishReason, Prompt, Refusal, RefusalCode, TextPrompt
from bus.messages.placement import NotServed, Serving, Want
from bus.messages.request import Admitted, Chunk, Completed, Failed, Order, RequestEvent, Waiting
from bus.trail import TEXT_STRIDE, trail_of
from tests.actors.probe import soon

INSTANCE = InstanceId("i")
HELLO = TextPrompt("hello")
LOST = Refusal(RefusalCode.ENGINE_LOST, "the engine was killed")


class StandIn(LoopActor[PlacementMessage]):
    """A placement that gives the answers that it was told to give, and the last one again and again."""

    def __init__(self, heard: asyncio.Queue[PlacementMessage], *answers: Serving | NotServed) -> None:
        super().__init__()
        self._heard, self._answers = heard, list(answers)

    def on_receive(self, message: PlacementMessage) -> Serving | NotServed:
        self._heard.put_nowait(message)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


class Silent(LoopActor[PlacementMessage]):
    """A placement that is busy with other things for ever."""

    async def on_receive(self, message: PlacementMessage) -> None:
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

    def silent_placement(self) -> None:
        """One that takes a question and never answers."""
        ref = Silent.start()
        self.directory.register(names.PLACEMENT, ref)
        self._actors.append(ref)

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


@pytest.fixture
async def stage(bound_loop: asyncio.AbstractEventLoop) -> AsyncIterator[Stage]:
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


async def test_the_client_of_a_lost_engine_sees_a_pause_and_each_token_once(stage: Stage) -> None:
    stage.placement(served(1), served(2))
    stage.door(1)
    stage.door(2)
    request = stage.ask()
    (first,) = await stage.dispatched()
    say(
        request,
        Accepted(first.sequence, 5),
        token(first.sequence, "a", 10),
        token(first.sequence, "b", 11),
        Refused(first.sequence, LOST),
        token(first.sequence, "of an engine that is lost", 12),
    )
    assert await stage.abandoned() == (first.sequence,)
    (second,) = await stage.dispatched()
    assert second.resume == (10, 11)
    assert (second.prompt, second.sampling) == (first.prompt, first.sampling)
    assert first.sampling.seed is not None
    say(
        request,
        token(first.sequence, "of an engine that is lost", 12),
        Accepted(second.sequence, 5),
        Prefilled(second.sequence, 6, 7),
        token(second.sequence, "c", 12, last=3),
    )
    events = await stage.events()
    assert [event.text for event in events if isinstance(event, Chunk)] == ["a", "b", "c"]
    assert len([event for event in events if isinstance(event, Admitted)]) == 1
    assert [event.reason for event in events if isinstance(event, Waiting)] == [
        "the engine was killed",
        "computing again what it has of the answer",
    ]
    completed = events[-1]
    assert isinstance(completed, Completed)
    assert (completed.usage.prompt_tokens, completed.usage.completion_tokens) == (5, 3)


async def test_what_finished_before_the_loss_is_not_asked_for_again(stage: Stage) -> None:
    stage.placement(served(1))
    stage.door(1)
    request = stage.ask(n=2)
    done, other = [submit.sequence for submit in await stage.dispatched()]
    say(request, Accepted(done, 5), Accepted(other, 5), token(done, "x", 1, last=1))
    say(request, Refused(other, LOST))
    (again,) = await stage.dispatched()
    assert again.resume == ()
    say(request, Accepted(again.sequence, 5), token(again.sequence, "y", 2, last=1))
    events = await stage.events()
    assert [(event.index, event.text) for event in events if isinstance(event, Chunk)] == [(0, "x"), (1, "y")]
    assert isinstance(events[-1], Completed)


async def test_a_door_that_ends_is_a_lost_engine(stage: Stage) -> None:
    stage.placement(served(1), served(2))
    door = stage.door(1)
    stage.door(2)
    request = stage.ask()
    (first,) = await stage.dispatched()
    say(request, Accepted(first.sequence, 5), token(first.sequence, "a", 10))
    assert (await stage.fact(RequestState.DECODE, "generating")).instance == INSTANCE
    door.kill("a test wants to see it go")
    (second,) = await stage.dispatched()
    assert second.resume == (10,)
    say(request, token(second.sequence, "b", 11, last=2))
    assert isinstance((await stage.events())[-1], Completed)


async def test_a_door_that_is_not_there_yet_is_waited_for(stage: Stage) -> None:
    stage.placement(served(1))
    request = stage.ask()
    await stage.fact(RequestState.WAITING, "the model's instance is not there yet")
    stage.door(1)
    (submit,) = await stage.dispatched()
    say(request, Accepted(submit.sequence, 5), token(submit.sequence, "a", 1, last=1))
    assert isinstance((await stage.events())[-1], Completed)


async def test_while_its_model_is_placed_anew_the_reason_is_a_fact(stage: Stage) -> None:
    nowhere = NotServed(Refusal(RefusalCode.ENGINE_LOST, "the model is being placed anew"))
    stage.placement(served(1), *[nowhere] * 3, served(2))
    stage.door(1)
    stage.door(2)
    request = stage.ask()
    (first,) = await stage.dispatched()
    say(request, Accepted(first.sequence, 5), token(first.sequence, "a", 10), Refused(first.sequence, LOST))
    (second,) = await stage.dispatched()
    fact = await stage.fact(RequestState.WAITING, "the model is being placed anew")
    assert fact.generated_tokens == 1
    say(request, Accepted(second.sequence, 5), token(second.sequence, "b", 11, last=2))
    assert isinstance((await stage.events())[-1], Completed)


async def test_who_is_answered_waits_for_room_elsewhere_and_who_is_not_is_told_to_come_back(
    stage: Stage,
) -> None:
    full = Refusal(RefusalCode.OVERLOADED, "too many requests", retry_after_s=5.0)
    stage.placement(served(1))
    stage.door(1)
    request = stage.ask()
    (first,) = await stage.dispatched()
    say(request, Accepted(first.sequence, 5), token(first.sequence, "a", 10), Refused(first.sequence, LOST))
    (second,) = await stage.dispatched()
    say(request, Refused(second.sequence, full))
    (third,) = await stage.dispatched()
    assert third.resume == (10,)
    say(request, token(third.sequence, "b", 11, last=2))
    assert isinstance((await stage.events())[-1], Completed)

    stage.outlet = Outlet()
    request = stage.ask()
    (only,) = await stage.dispatched()
    say(request, Refused(only.sequence, full))
    failed = (await stage.events())[-1]
    assert isinstance(failed, Failed)
    assert failed.refusal == full


async def test_a_request_under_which_every_engine_is_lost_is_given_up_after_a_few(stage: Stage) -> None:
    stage.placement(served(1))
    stage.door(1)
    request = stage.ask()
    for _ in range(4):
        (submit,) = await stage.dispatched()
        say(request, Accepted(submit.sequence, 5), Refused(submit.sequence, LOST))
    failed = (await stage.events())[-1]
    assert isinstance(failed, Failed)
    assert failed.refusal == LOST


async def test_who_stands_in_line_is_told_its_place_and_who_is_computed_how_long_it_takes(
    stage: Stage,
) -> None:
    stage.placement(served(1))
    stage.door(1)
    request = stage.ask()
    (submit,) = await stage.dispatched()
    name = submit.sequence
    say(
        request,
        Accepted(name, 50),
        Queued(name, 2, "waiting for memory"),
        Queued(name, 1, "waiting for memory"),
        Prefilled(name, 30, 50, eta_s=1.5, cached=20),
    )
    fact = await stage.fact(RequestState.PREFILL, "computing the prompt")
    assert (fact.place, fact.eta_s, fact.cached_tokens) == (None, 1.5, 20)
    say(request, token(name, "a", 1, last=1))
    assert [event for event in await stage.events() if isinstance(event, Waiting)] == [
        Waiting("waiting for memory", place=2),
        Waiting("waiting for memory", place=1),
        Waiting("computing the prompt", 30, 50, eta_s=1.5),
    ]


async def test_who_is_put_off_for_want_of_memory_says_so_and_goes_on(stage: Stage) -> None:
    stage.placement(served(1))
    stage.door(1)
    request = stage.ask()
    (submit,) = await stage.dispatched()
    name = submit.sequence
    say(request, Accepted(name, 5), token(name, "a", 1), Queued(name, 3, "waiting for memory"))
    fact = await stage.fact(RequestState.WAITING, "waiting again for memory")
    assert fact.place == 3
    say(request, Prefilled(name, 4, 6), token(name, "b", 2, last=2))
    events = await stage.events()
    assert [event.text for event in events if isinstance(event, Chunk)] == ["a", "b"]
    assert [(event.reason, event.place) for event in events if isinstance(event, Waiting)] == [
        ("waiting again for memory", 3),
        ("computing again what it has of the answer", None),
    ]


async def test_a_request_keeps_its_deadline_also_while_nobody_tells_it_where_to_go(stage: Stage) -> None:
    stage.silent_placement()
    stage.ask(timeout_s=0.1)
    (failed,) = await soon(stage.events())
    assert isinstance(failed, Failed)
    assert failed.refusal == Refusal(RefusalCode.TIMEOUT, "not finished within 0.1 s")


async def test_an_instance_that_becomes_ready_is_told_of_in_plain_words(stage: Stage) -> None:
    stage.placement(served(1))
    stage.door(1)
    request = stage.ask()
    (submit,) = await stage.dispatched()
    say(
        request,
        InstanceChanged(INSTANCE, Phase.LOADING, "reading layer 1 of 4", progress=0.25),
        InstanceChanged(INSTANCE, Phase.READY, "ready"),
        Accepted(submit.sequence, 5),
        token(submit.sequence, "a", 1, last=1),
    )
    assert [event.reason for event in await stage.events() if isinstance(event, Waiting)] == [
        "the model is loading: reading layer 1 of 4, 25%",
        "the model is ready",
    ]


async def test_placement_is_told_how_the_prompt_begins_and_how_many_answers_are_wanted(stage: Stage) -> None:
    prompt = TextPrompt("a" * TEXT_STRIDE)
    wants = stage.placement(served(1))
    stage.door(1)
    request = stage.ask(n=2, prompt=prompt)
    submits = await stage.dispatched()
    assert (await soon(wants.get())) == Want(ModelId("m"), trail=trail_of(prompt), sequences=2)
    assert trail_of(prompt)
    for submit in submits:
        say(request, Accepted(submit.sequence, 5), token(submit.sequence, "a", 1, last=1))
    assert isinstance((await stage.events())[-1], Completed)
