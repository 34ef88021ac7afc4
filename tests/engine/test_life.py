"""How an engine's life goes, and how it ends when the model itself fails."""

from __future__ import annotations

import re

import pytest

from bus.messages.base import SequenceId
from bus.messages.engine import FromEngine, Load, Phase, PhaseChange, Step, Submit
from bus.messages.generation import Sampling, Stopping, TextPrompt
from engine.gauges import Gauges
from engine.inbox import Inbox
from engine.intake import Intake
from engine.life import live
from engine.ranks.conductor import Conductor
from engine.steps.stepper import Stepped
from engine.threads import Threads
from engine.work import Drop, End
from tests.engine.conftest import Models


class Record:
    """In the link's place: keeps what is posted, submits one prompt when there is a model, and
    ends the engine when it is answered."""

    def __init__(self, inbox: Inbox) -> None:
        self.posted: list[FromEngine] = []
        self._inbox = inbox

    def post(self, message: FromEngine) -> None:
        self.posted.append(message)
        if isinstance(message, Step) and any(delta.finish for delta in message.deltas):
            self._inbox.put(End())

    def serve(self, intake: Intake) -> None:
        submit = Submit(
            SequenceId("a"), TextPrompt("hello"), Sampling(temperature=0.0), Stopping(4, ignore_eos=True)
        )
        self._inbox.put(intake.accept(submit))

    @property
    def last(self) -> PhaseChange:
        return [message for message in self.posted if isinstance(message, PhaseChange)][-1]


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def link(inbox: Inbox) -> Record:
    return Record(inbox)


def fail_when_ready(monkeypatch: pytest.MonkeyPatch, link: Record, error: Exception) -> None:
    wait = Conductor.wait

    def failing(self: Conductor) -> list[Stepped]:
        if link.last.phase is Phase.READY:
            raise error
        return wait(self)

    monkeypatch.setattr(Conductor, "wait", failing)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("[malloc] Unable to allocate 1 bytes"), "out of memory while computing"),
        (MemoryError(), "out of memory while computing"),
        (ValueError("bad shapes"), "the model failed while computing .*bad shapes"),
    ],
)
def test_a_model_that_fails_while_computing_ends_the_engine_with_a_reason(
    models: Models,
    inbox: Inbox,
    link: Record,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    reason: str,
) -> None:
    fail_when_ready(monkeypatch, link, error)
    inbox.put(Load(str(models("llama"))))
    assert live(link, inbox, Gauges(), Threads()) == 1
    assert link.last.phase is Phase.FAILED
    assert re.match(reason, link.last.reason)


def test_an_engine_loads_answers_and_ends(models: Models, inbox: Inbox, link: Record) -> None:
    gauges = Gauges()
    inbox.put(Drop(frozenset({SequenceId("nobody")})))
    inbox.put(Load(str(models("llama"))))
    assert live(link, inbox, gauges, Threads()) == 0
    assert gauges.reading.tokens == 4
    assert link.last.phase is Phase.READY
