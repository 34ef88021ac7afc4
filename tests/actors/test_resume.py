"""A request whose engine is lost goes on with another: its client sees a pause, and every token once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from actors.outlet import Outlet
from bus.messages.engine import Accepted, Prefilled, Refused
from bus.messages.facts import RequestState
from bus.messages.generation import Refusal, RefusalCode
from bus.messages.placement import NotServed
from bus.messages.request import Admitted, Chunk, Completed, Failed, Waiting
from tests.actors.stage import INSTANCE, Stage, on_stage, say, served, token

LOST = Refusal(RefusalCode.ENGINE_LOST, "the engine was killed")


@pytest.fixture
async def stage(bound_loop: asyncio.AbstractEventLoop) -> AsyncIterator[Stage]:
    async with on_stage() as stage:
        yield stage


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
