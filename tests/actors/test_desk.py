"""A desk takes on what there is room for, says how soon there is more, and tells each Request its news."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from actors.kernel.actor import LoopActor
from actors.kernel.reference import Ref
from actors.messages import Dispatch, RequestMessage
from actors.running.desk import Desk
from actors.running.rate import SHORTEST_S
from bus.messages.base import SequenceId
from bus.messages.engine import Prefilled, Queued, Refused, Step, Submit
from bus.messages.generation import Delta, Finish, FinishReason, RefusalCode, TextPrompt
from tests.actors.probe import soon

DONE = Finish(FinishReason.STOP, 1)


class Asker(LoopActor[RequestMessage]):
    """Keeps what it is told."""

    def __init__(self, heard: asyncio.Queue[RequestMessage]) -> None:
        super().__init__()
        self._heard = heard

    def on_receive(self, message: RequestMessage) -> None:
        self._heard.put_nowait(message)


class Counter:
    """A desk for four sequences, its clock, and somebody who asks."""

    def __init__(self) -> None:
        self.now = 100.0
        self.desk = Desk(4, lambda: self.now)
        self.heard: asyncio.Queue[RequestMessage] = asyncio.Queue()
        self.asker: Ref[RequestMessage] = Asker.start(self.heard)

    def take(self, *names: str) -> bool:
        submits = tuple(Submit(SequenceId(name), TextPrompt("x")) for name in names)
        return self.desk.take(Dispatch(submits, self.asker), None)

    def finish(self, *names: str) -> None:
        self.desk.deliver(Step(1, tuple(Delta(SequenceId(name), finish=DONE) for name in names)))

    async def refused(self) -> Refused:
        while True:
            message = await soon(self.heard.get())
            if isinstance(message, Refused):
                return message


@pytest.fixture
async def counter(bound_loop: asyncio.AbstractEventLoop) -> AsyncIterator[Counter]:
    counter = Counter()
    yield counter
    await counter.asker.stop(block=False)


async def test_what_is_over_the_bound_is_told_when_there_will_be_room(counter: Counter) -> None:
    assert counter.take("a", "b", "c", "d")
    for name in ("e", "f", "g"):
        counter.now += 30.0
        counter.finish(chr(ord(name) - 4))
        assert counter.take(name)
    assert not counter.take("h", "i")
    refusal = (await counter.refused()).refusal
    assert refusal.code is RefusalCode.OVERLOADED
    assert refusal.retry_after_s == 2 * 90.0 / 4
    assert "4 answers are under way or wait, of 4 at most" in refusal.message
    assert "room for 2 more in about 45 s" in refusal.message


async def test_answers_that_nobody_wants_any_more_make_room_too(counter: Counter) -> None:
    assert counter.take("a", "b", "c", "d")
    counter.now += 60.0
    counter.desk.abandon((SequenceId("a"),))
    counter.desk.forget(counter.asker)
    assert len(counter.desk) == 0
    assert counter.take("e", "f", "g", "h")
    assert not counter.take("i")
    assert (await counter.refused()).refusal.retry_after_s == 60.0 / 5


async def test_an_engine_that_is_lost_says_nothing_of_the_pace(counter: Counter) -> None:
    assert counter.take("a", "b", "c", "d")
    counter.desk.queued()
    counter.now += 60.0
    counter.desk.refuse_lost("it was killed")
    counter.now += 3600.0
    assert counter.take("e", "f", "g", "h")
    assert not counter.take("i")
    refusals = [await counter.refused() for _ in range(5)]
    assert refusals[-1].refusal.retry_after_s == 60.0


async def test_who_comes_while_all_is_quick_is_told_to_come_back_soon(counter: Counter) -> None:
    assert counter.take("a", "b", "c", "d")
    assert not counter.take("e")
    assert (await counter.refused()).refusal.retry_after_s == SHORTEST_S


async def test_what_could_never_fit_is_not_told_to_come_back(counter: Counter) -> None:
    assert not counter.take(*"abcde")
    refusal = (await counter.refused()).refusal
    assert (refusal.code, refusal.retry_after_s) == (RefusalCode.INVALID, None)
    assert "4 answers at once; 5 were asked for" in refusal.message


async def test_each_is_told_its_place_after_what_the_step_brought(counter: Counter) -> None:
    assert counter.take("a", "b")
    a, b = SequenceId("a"), SequenceId("b")
    said = (Prefilled(a, 1, 2), Delta(a, tokens=1), Queued(b, 1, "its turn"), Queued(a, 0, "memory"))
    counter.desk.deliver(Step(1, said[1:2], said[:1], said[2:]))
    assert [await soon(counter.heard.get()) for _ in said] == list(said)
