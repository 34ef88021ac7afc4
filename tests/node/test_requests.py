"""A request runs to its end or is killed: then nothing is computed for it, and nobody else notices."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from msgspec.structs import replace

from actors.running.runner_settings import RunnerSettings
from bus.messages.facts import RequestFact, RequestState
from bus.messages.generation import RefusalCode
from bus.messages.request import Admitted, Chunk, Completed, Failed, RequestEvent, Waiting
from exo_actors.node import Node
from tests.node.conftest import TINY
from tests.node.nodes import (
    answer,
    decoding,
    events,
    failure,
    idle,
    is_idle,
    order,
    ready,
    running,
    settings,
    until,
    until_nobody_asks,
    until_withdrawn,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> AsyncIterator[Node]:
    """One for all that leave it as it was."""
    async with running(settings(tmp_path_factory.mktemp("data"), models_dir, TINY)) as node:
        await ready(node, TINY)
        yield node


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def _nobody_asks_any_more(node: Node) -> AsyncIterator[None]:
    """Requests have the same names in all tests: none must be taken for that of the test before."""
    yield
    await until_nobody_asks(node.bus.view)


async def test_a_request_is_admitted_answered_and_billed(node: Node) -> None:
    seen = await events(node, order("a", TINY, tokens=5, n=3))
    completed = seen[-1]
    assert isinstance(completed, Completed)
    assert completed.usage.completion_tokens == 15
    (admitted,) = [event for event in seen if isinstance(event, Admitted)]
    assert completed.usage.prompt_tokens == sum(admitted.prompt_tokens) > 0
    finishes = [event for event in seen if isinstance(event, Chunk) and event.finish]
    assert sorted(event.index for event in finishes) == [0, 1, 2]
    await until_withdrawn(node.bus.view, "request/a")
    assert node.gateway.cancel(order("a", TINY).request, "too late") is False


async def test_a_model_that_nobody_has_is_refused_and_one_in_the_store_is_placed(
    tmp_path: Path, models_dir: Path
) -> None:
    async with running(settings(tmp_path, models_dir, "guide")) as node:
        refused = await failure(node, order("a", "nobody/has-it"))
        assert refused.refusal.code is RefusalCode.MODEL_NOT_FOUND
        assert len(await answer(node, order("b", TINY, tokens=4))) > 0
        assert (await ready(node, TINY)).model == TINY


async def test_killing_a_request_with_32_streams_frees_the_engine_and_leaves_the_others_alone(
    node: Node,
) -> None:
    others = [order(f"other-{number}", TINY, f"Prompt {number}", tokens=150) for number in range(4)]
    alone = [await answer(node, each) for each in others]
    await idle(node, TINY)

    streams = [asyncio.create_task(answer(node, each)) for each in others]
    crowd = asyncio.create_task(events(node, order("crowd", TINY, "Long", tokens=1500, n=32)))
    await decoding(node, "crowd")
    assert node.gateway.cancel(order("crowd", TINY).request, "a test wants to see it go")
    last = (await crowd)[-1]
    assert isinstance(last, Failed)
    assert last.refusal.code is RefusalCode.CANCELLED
    assert last.refusal.message == "a test wants to see it go"
    assert await asyncio.gather(*streams) == alone
    assert is_idle(await idle(node, TINY))


async def test_a_client_that_goes_away_takes_its_request_along(node: Node) -> None:
    async with node.gateway.open(order("a", TINY, tokens=None)) as generation:
        async for event in generation:
            if isinstance(event, Chunk):
                break
    await until_withdrawn(node.bus.view, "request/a")
    await idle(node, TINY)


async def test_a_request_that_passes_its_deadline_is_told_so_and_costs_nothing_more(node: Node) -> None:
    overdue = await failure(node, replace(order("a", TINY, tokens=None), timeout_s=0.2))
    assert overdue.refusal.code is RefusalCode.TIMEOUT
    await idle(node, TINY)


async def test_who_finds_the_line_full_is_told_when_to_come_back_and_is_then_served(node: Node) -> None:
    bound = RunnerSettings(pace_s=1.0).max_sequences
    never = await failure(node, order("a", TINY, n=bound + 1))
    assert never.refusal.code is RefusalCode.INVALID
    assert f"{bound} answers at once" in never.refusal.message

    crowd = asyncio.create_task(events(node, order("crowd", TINY, tokens=1500, n=bound)))
    await decoding(node, "crowd")
    refused = (await failure(node, order("b", TINY))).refusal
    assert refused.code is RefusalCode.OVERLOADED
    assert refused.retry_after_s is not None
    assert 1 <= refused.retry_after_s <= 300
    node.gateway.cancel(order("crowd", TINY).request, "a test wants to see it go")
    assert isinstance((await crowd)[-1], Failed)
    await idle(node, TINY)
    assert len(await answer(node, order("b", TINY, tokens=4))) > 0


async def test_what_is_kept_of_a_prompt_is_billed_as_kept_once_for_all_answers(node: Node) -> None:
    bills = []
    for name, n in (("first", 2), ("second", 3)):
        completed = (await events(node, order(name, TINY, "Once upon a time " * 20, tokens=4, n=n)))[-1]
        assert isinstance(completed, Completed)
        bills.append(completed.usage)
    first, second = bills
    assert first.cached_tokens == 0, "its second answer shares the first one's prompt: that is billed once"
    assert first.prompt_tokens == second.prompt_tokens > second.cached_tokens
    assert second.cached_tokens > second.prompt_tokens // 2


async def asked(node: Node, name: str) -> RequestFact:
    """Wait until a request is under way."""
    return await until(node.bus.view, RequestFact, lambda fact: fact.id == name)


async def test_who_waits_is_told_its_place_in_the_line_as_that_moves_on(node: Node) -> None:
    room = RunnerSettings(pace_s=1.0).max_running
    crowd = asyncio.create_task(events(node, order("crowd", TINY, tokens=1500, n=room)))
    await decoding(node, "crowd")
    earlier = [asyncio.create_task(events(node, order(name, TINY, f"I am {name}"))) for name in "ab"]
    for name in "ab":
        await asked(node, name)
    seen: list[RequestEvent] = []
    async with node.gateway.open(order("c", TINY, "I am c")) as generation:
        async for event in generation:
            seen.append(event)
            if isinstance(event, Waiting) and event.place is not None:
                node.gateway.cancel(order("crowd", TINY).request, "the line is to move on")
    told = [event for event in seen if isinstance(event, Waiting)]
    places = [event.place for event in told if event.place is not None]
    assert places[0] > 0
    assert places == sorted(places, reverse=True)
    assert all(event.reason for event in told)
    assert all(isinstance(each[-1], Completed) for each in [seen, *await asyncio.gather(*earlier)])
    assert isinstance((await crowd)[-1], Failed)


async def test_what_a_request_does_is_a_fact(node: Node) -> None:
    async with node.gateway.open(order("a", TINY, tokens=None)):
        fact: RequestFact = await decoding(node, "a")
        assert fact.state is RequestState.DECODE
        assert fact.instance == (await ready(node, TINY)).id
    await until_withdrawn(node.bus.view, "request/a")


async def test_stopping_the_node_ends_every_request_with_a_reason(tmp_path: Path, models_dir: Path) -> None:
    async with running(settings(tmp_path, models_dir, TINY)) as node:
        stream = asyncio.create_task(events(node, order("a", TINY, tokens=None)))
        await decoding(node, "a")
    last = (await stream)[-1]
    assert isinstance(last, Failed)
    assert "stopping" in last.refusal.message
