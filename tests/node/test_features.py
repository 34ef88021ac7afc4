"""Kept conversations, and answers that are held to a form, on two whole nodes that run the same model."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio
from msgspec.structs import replace

from bus.messages.base import InstanceId, ModelId, RequestId
from bus.messages.facts import DeclaredFact, InstanceFact
from bus.messages.generation import (
    CallFormat,
    ChatMessage,
    ChatPrompt,
    Format,
    JsonFormat,
    Sampling,
    Stopping,
    ToolCallDelta,
)
from bus.messages.placement import Wish
from bus.messages.request import Admitted, Chunk, Completed, Order, RequestEvent
from bus.trail import shared, trail_of
from exo_actors.node import Node
from tests.node.clusters import cluster, node_id, place, served
from tests.node.conftest import TINY
from tests.node.nodes import engines, events, gone, interrupted, is_idle, order, text, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

NUMBERS = {
    "type": "object",
    "properties": {
        "numbers": {"type": "array", "minItems": 20, "maxItems": 20, "items": {"enum": [7, 12, 365]}}
    },
    "required": ["numbers"],
    "additionalProperties": False,
}
COUNT = json.dumps({"type": "function", "function": {"name": "count", "parameters": NUMBERS}})


of_others: set[int] = set()
"""Engines of nodes that other tests share: this file's are not the only ones of its process."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def nodes(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> AsyncIterator[list[Node]]:
    """Each with an instance of its own."""
    of_others.clear()
    of_others.update(each.pid for each in engines())
    async with cluster(2, tmp_path_factory.mktemp("data"), models_dir, "--no-model") as both:
        for node in both:
            instance = await place(both[0], Wish(model=ModelId(TINY), nodes=(node_id(node),)))
            for other in both:
                await served(other, instance.id)
        for node in both:  # whoever asks an instance of the other node's has an Envoy there from then on
            await asyncio.gather(*(events(node, order(f"{node_id(node)}-{each}", TINY)) for each in "ab"))
        yield both


def chat(name: str, *turns: str) -> Order:
    """The user's turns and, between them, the model's."""
    told = [ChatMessage("assistant" if place % 2 else "user", turn) for place, turn in enumerate(turns)]
    return replace(order(name, TINY), prompts=(ChatPrompt(tuple(told)),))


def where(seen: Sequence[RequestEvent]) -> InstanceId:
    (admitted,) = (event for event in seen if isinstance(event, Admitted))
    return admitted.instance


def kept(seen: Sequence[RequestEvent]) -> int:
    completed = seen[-1]
    assert isinstance(completed, Completed), completed
    return completed.usage.cached_tokens


async def told(node: Node, instance: InstanceId, begun: Order) -> InstanceFact:
    """Wait until a node knows that an instance is idle and has kept a conversation."""
    trail = trail_of(begun.prompts[0])
    return await until(
        node.bus.view,
        InstanceFact,
        lambda fact: fact.id == instance and is_idle(fact) and shared(trail, set(fact.trails)) == len(trail),
    )


async def test_a_conversation_goes_on_where_it_is_kept_whichever_node_is_asked(nodes: list[Node]) -> None:
    # Of several turns: so much is worth waiting for others at its instance, such as were sent there just now.
    turns = ("It rains in the old town. " * 10, "It does.", "And now?", "It goes on.", "For how long?")
    openings = [(f"I am {name}.", "Hello!", *turns) for name in ("anna", "bert")]
    # Both at once: mostly, each goes to another instance.
    first = [chat(f"first-{number}", *opening) for number, opening in enumerate(openings)]
    begun = await asyncio.gather(*(events(nodes[0], each) for each in first))
    for node in nodes:
        for number, (opening, before) in enumerate(zip(openings, begun, strict=True)):
            await told(node, where(before), first[number])
            seen = await events(node, chat(f"{node_id(node)}-{number}", *opening, text(before), "And then?"))
            assert where(seen) == where(before)
            assert kept(seen) > 50


def held_to(name: str, format: Format, *tools: str) -> Order:
    return Order(
        RequestId(name),
        ModelId(TINY),
        (ChatPrompt((ChatMessage("user", "How many days?"),), tools=tools),),
        sampling=Sampling(seed=3, temperature=0.8),
        stopping=Stopping(max_tokens=600, calls=1),
        format=format,
    )


def calls(seen: Sequence[RequestEvent]) -> list[ToolCallDelta]:
    return [call for event in seen if isinstance(event, Chunk) for call in event.tool_calls]


def arguments(seen: Sequence[RequestEvent]) -> str:
    return "".join(call.arguments for call in calls(seen))


def kill() -> None:
    for engine in engines():
        if engine.pid not in of_others:
            engine.kill()


async def test_what_is_held_to_a_form_keeps_it_when_its_engine_is_lost_in_the_middle(
    nodes: list[Node],
) -> None:
    orders = [held_to("call", CallFormat(), COUNT), held_to("json", JsonFormat(json.dumps(NUMBERS)))]
    whole = await asyncio.gather(*(events(nodes[1], each) for each in orders))
    call, answer = await interrupted(nodes[1], orders, 3, kill)
    assert text(answer) == text(whole[1])
    assert arguments(call) == arguments(whole[0])
    for words in (text(answer), arguments(call)):
        assert len(json.loads(words)["numbers"]) == 20
    assert [each.name for each in calls(call) if each.id] == ["count"], "its name and id are told once"
    await withdrawn(nodes[0])


async def withdrawn(node: Node) -> None:
    """End all instances, and wait until nothing of them is left."""
    left = engines()
    for fact in list(node.bus.view.facts().values()):
        if isinstance(fact, DeclaredFact) and not fact.withdrawn:
            await node.gateway.withdraw(fact.instance.id)
    await gone(left)
