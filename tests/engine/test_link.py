"""The engine's end of the bus, without a process around it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from queue import SimpleQueue

import pytest

from bus.bus import Bus, new_identity
from bus.codec import MESSAGE_LIMIT
from bus.messages.base import NodeId, SequenceId
from bus.messages.engine import Accepted, Cancel, Refused, Step, Submit
from bus.messages.envelope import Body
from bus.messages.generation import Delta, RefusalCode, TextPrompt
from engine.clerks import LONG
from engine.gauges import Gauges
from engine.intake import Intake
from engine.link import Link
from engine.work import Drop, Job, Work
from tests.engine.intakes import CONTEXT, VOCABULARY, Words

PATIENCE_S = 30.0


class Ends:
    """A link, and the node that it speaks with."""

    def __init__(self, bus: Bus) -> None:
        self.inbox: SimpleQueue[Work] = SimpleQueue()
        self.said: list[Body] = []
        self._news = asyncio.Event()
        identity = new_identity()
        self.peer = bus.expect(identity, receive=self._hear, gone=self._news.set)
        self.link = Link(bus.commands_endpoint, identity, {}, self.inbox, Gauges())

    def _hear(self, body: Body) -> None:
        self.said.append(body)
        self._news.set()

    async def heard(self, sequence: SequenceId, *kinds: type) -> list[Body]:
        """All that was said of a sequence so far, once one of these kinds is among it."""
        async with asyncio.timeout(PATIENCE_S):
            while not any(isinstance(each, kinds) for each in self._of(sequence)):
                self._news.clear()
                await self._news.wait()
        return self._of(sequence)

    async def met(self) -> None:
        """Wait until the link has said its first word."""
        async with asyncio.timeout(PATIENCE_S):
            while not self.said:
                self._news.clear()
                await self._news.wait()

    def _of(self, sequence: SequenceId) -> list[Body]:
        return [
            each
            for each in self.said
            if (isinstance(each, Accepted | Refused) and each.sequence == sequence)
            or (isinstance(each, Step) and any(delta.sequence == sequence for delta in each.deltas))
        ]

    async def submit(self, name: str) -> SequenceId:
        sequence = SequenceId(name)
        await self.peer.command(Submit(sequence, TextPrompt("hello there")), PATIENCE_S)
        await self.heard(sequence, Accepted)
        assert isinstance(self.inbox.get(timeout=PATIENCE_S), Job)
        return sequence


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    async with asyncio.timeout(PATIENCE_S):
        bus = await Bus.open(NodeId("test"))
        ends = Ends(bus)
        await asyncio.to_thread(ends.link.start)
        ends.link.serve(Intake(Words(), CONTEXT, VOCABULARY))
        await ends.met()
        yield ends
        await asyncio.to_thread(ends.link.close)
        await bus.close()


async def test_news_that_the_bus_cannot_carry_end_that_sequence_alone(ends: Ends) -> None:
    large, small = await ends.submit("large"), await ends.submit("small")
    ends.link.post(Step(1, (Delta(large, "x" * MESSAGE_LIMIT, tokens=1), Delta(small, "y", tokens=1))))
    *_, refused = await ends.heard(large, Refused)
    assert isinstance(refused, Refused)
    assert refused.refusal.code is RefusalCode.ENGINE_FAILED
    assert "too large" in refused.refusal.message
    accepted, step = await ends.heard(small, Step)
    assert isinstance(accepted, Accepted)
    assert isinstance(step, Step)
    assert [delta.text for delta in step.deltas] == ["y"]
    assert ends.inbox.get(timeout=PATIENCE_S) == Drop(frozenset({large}))


async def test_a_sequence_that_the_bus_ended_is_forgotten(ends: Ends) -> None:
    large = await ends.submit("large")
    ends.link.post(Step(1, (Delta(large, "x" * MESSAGE_LIMIT, tokens=1),)))
    await ends.heard(large, Refused)
    assert isinstance(ends.inbox.get(timeout=PATIENCE_S), Drop)
    assert await ends.submit("large") == large


class Slow(Words):
    """Takes as long for a text with many words as it is made to."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.enough = threading.Event(), threading.Event()
        self.read = 0

    def encode(self, text: str) -> list[int]:
        if len(text) >= LONG:
            self.begun.set()
            self.enough.wait(PATIENCE_S)
        self.read += 1
        return super().encode(text)


async def test_short_prompts_do_not_wait_while_long_ones_are_made_into_tokens(ends: Ends) -> None:
    words = Slow()
    ends.link.serve(Intake(words, CONTEXT, VOCABULARY))
    long, cancelled = SequenceId("long"), SequenceId("cancelled")
    for sequence in (long, cancelled):
        await ends.peer.command(Submit(sequence, TextPrompt("word " * LONG)), PATIENCE_S)
    await asyncio.to_thread(words.begun.wait, PATIENCE_S)
    await ends.submit("short")
    assert ends.peer.notify(Cancel((cancelled,)))
    assert await asyncio.to_thread(ends.inbox.get, timeout=PATIENCE_S) == Drop(frozenset({cancelled}))
    words.enough.set()
    *_, refused = await ends.heard(long, Refused)
    assert isinstance(refused, Refused)
    assert refused.refusal.code is RefusalCode.CONTEXT_LENGTH
    await ends.submit("last")
    assert words.read == 3, "who has left is not looked at any more"
