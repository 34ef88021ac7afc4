"""A request whose engine is killed in the middle of its answer pauses, and says what it would have said."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from msgspec.structs import replace

from bus.messages.base import ModelId, RequestId
from bus.messages.generation import ChatMessage, ChatPrompt, Finish, Sampling, Stopping, TextPrompt
from bus.messages.request import Admitted, Chunk, Completed, Order, RequestEvent
from tests.node.conftest import TINY
from tests.node.nodes import engines, events, interrupted, ready, running, settings

GUIDE = "guide"
TOKENS = 300
KILLED_AT = 20
"""Tokens; the answer's end is far from there."""


def asking(
    name: str, model: str = TINY, n: int = 1, stop: tuple[str, ...] = (), logprobs: int | None = None
) -> Order:
    return Order(
        RequestId(name),
        ModelId(model),
        (TextPrompt("Once upon a time"),),
        n=n,
        sampling=Sampling(temperature=0.0),
        stopping=Stopping(max_tokens=TOKENS, stop=stop, ignore_eos=True),
        logprobs=logprobs,
    )


ORDERS = [
    asking("greedy"),
    asking("answers", n=2),
    replace(asking("seed", n=2), sampling=Sampling(seed=7, temperature=0.9, top_p=0.95)),
    replace(asking("penalties"), sampling=Sampling(temperature=0.0, frequency_penalty=0.3)),
    asking("logprobs", n=2, logprobs=2),
    replace(asking("echo"), echo=True),
    # Hot enough not to go round in circles.
    replace(asking("guide", GUIDE), sampling=Sampling(seed=5, temperature=1.0)),
    replace(
        asking("chat", GUIDE), prompts=(ChatPrompt((ChatMessage("user", "How do I add a second machine?"),)),)
    ),
]


@dataclass
class Told:
    """What one answer came to, however it was cut into chunks."""

    text: str = ""
    reasoning: str = ""
    tokens: list[tuple[int, str]] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finishes: list[Finish] = field(default_factory=list)


def told(events: Sequence[RequestEvent]) -> dict[int, Told]:
    answers: dict[int, Told] = {}
    for event in events:
        if isinstance(event, Chunk):
            answer = answers.setdefault(event.index, Told())
            answer.text += event.text
            answer.reasoning += event.reasoning
            answer.tokens += [(entry.token, entry.text) for entry in event.logprobs]
            answer.logprobs += [entry.logprob for entry in event.logprobs if entry.logprob is not None]
            answer.finishes += [event.finish] if event.finish else []
    return answers


def bill(events: Sequence[RequestEvent]) -> Completed:
    completed = events[-1]
    assert isinstance(completed, Completed), completed
    return completed


def kill() -> None:
    """What the one node of a test computes with."""
    for engine in engines():
        engine.kill()


def agree(one: Sequence[RequestEvent], other: Sequence[RequestEvent]) -> None:
    first, second = told(one), told(other)
    for index in first.keys() & second.keys():
        # Computed by prefill instead of by decoding, they may differ in their last bits.
        ones, others = first[index].logprobs, second[index].logprobs
        assert ones == pytest.approx(others, abs=1e-3)
        first[index].logprobs = second[index].logprobs = []
    assert first == second
    assert bill(one) == bill(other)


def late_stop(text: str) -> str:
    """Some of a text that occurs late in it, and not before."""
    return next(
        text[place : place + 4]
        for place in range(len(text) * 3 // 4, len(text) - 4)
        if text.index(text[place : place + 4]) == place
    )


@pytest.mark.parametrize("model", [TINY, GUIDE])
async def test_an_engine_that_is_killed_in_the_middle_costs_a_pause_and_nothing_else(
    tmp_path: Path, models_dir: Path, model: str
) -> None:
    async with running(settings(tmp_path, models_dir, model)) as node:
        await ready(node, model)
        (plain, *others) = [order for order in ORDERS if order.model == model]
        stop = late_stop(told(await events(node, plain))[0].text)
        orders = [
            plain,
            *others,
            replace(plain, request=RequestId("stop"), stopping=replace(plain.stopping, stop=(stop,))),
        ]
        whole = await asyncio.gather(*(events(node, order) for order in orders))
        cut = await interrupted(node, orders, KILLED_AT, kill)
        for before, after in zip(whole, cut, strict=True):
            assert len([event for event in after if isinstance(event, Admitted)]) == 1
            agree(after, before)
        (finish,) = told(cut[-1])[0].finishes
        assert finish.stop_string == stop


@pytest.mark.usefixtures("long")
async def test_an_engine_that_is_killed_again_and_again_costs_nothing_either(
    tmp_path: Path, models_dir: Path
) -> None:
    async with running(settings(tmp_path, models_dir, TINY)) as node:
        await ready(node, TINY)
        whole = await events(node, asking("whole"))
        seen: list[RequestEvent] = []
        async with node.gateway.open(asking("cut")) as generation:
            async for event in generation:
                seen.append(event)
                if sum(isinstance(each, Chunk) for each in seen) in (10, 60) and isinstance(event, Chunk):
                    kill()
        agree(seen, whole)
