"""What a request tells its client while there is no token to tell, and what it asks of others meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from actors.messages import InstanceChanged
from bus.messages.base import ModelId
from bus.messages.engine import Accepted, Phase, Prefilled, Queued, Refused
from bus.messages.facts import RequestState
from bus.messages.generation import Refusal, RefusalCode, TextPrompt
from bus.messages.placement import Want
from bus.messages.request import Chunk, Completed, Failed, Waiting
from bus.trail import TEXT_STRIDE, trail_of
from tests.actors.probe import soon
from tests.actors.stage import INSTANCE, Stage, on_stage, say, served, token


@pytest.fixture
async def stage(bound_loop: asyncio.AbstractEventLoop) -> AsyncIterator[Stage]:
    async with on_stage() as stage:
        yield stage


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


async def test_a_prompt_that_takes_long_to_be_read_is_the_reason_why_nothing_comes(stage: Stage) -> None:
    stage.placement(served(1))
    stage.door(1)
    request = stage.ask()
    (submit,) = await stage.dispatched()
    fact = await stage.fact(RequestState.WAITING, "the prompt is being read")
    assert fact.instance == INSTANCE
    say(request, Accepted(submit.sequence, 5), token(submit.sequence, "a", 1, last=1))
    assert isinstance((await stage.events())[-1], Completed)


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


async def test_who_stands_in_line_at_another_engine_was_not_put_off_for_want_of_memory(stage: Stage) -> None:
    stage.placement(served(1))
    stage.door(1)
    request = stage.ask()
    (first,) = await stage.dispatched()
    lost = Refusal(RefusalCode.ENGINE_LOST, "the engine was killed")
    say(request, Accepted(first.sequence, 5), token(first.sequence, "a", 1), Refused(first.sequence, lost))
    (second,) = await stage.dispatched()
    name = second.sequence
    say(request, Accepted(name, 5), Queued(name, 1, "waits for memory again"), token(name, "b", 2, last=2))
    told = [(event.reason, event.place) for event in await stage.events() if isinstance(event, Waiting)]
    assert told == [("the engine was killed", None), ("waiting for its turn to go on", 1)]


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
