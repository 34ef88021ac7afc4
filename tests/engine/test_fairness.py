"""Who is next, of those that wait."""

from __future__ import annotations

from dataclasses import replace

from bus.messages.base import SequenceId
from bus.messages.engine import Step, Submit
from bus.messages.generation import Stopping, TokenPrompt
from engine.loader import Loaded
from tests.engine.harness import GREEDY, Harness

FEW = Stopping(max_tokens=2, ignore_eos=True)


def wait(harness: Harness, name: str, tokens: range) -> SequenceId:
    """Stand in line for a prompt; all of them come at the same moment."""
    submit = Submit(SequenceId(name), TokenPrompt(tuple(tokens)), GREEDY, FEW)
    harness.inbox.put(replace(harness.intake.accept(submit), arrived_s=0.0))
    return submit.sequence


def answered(harness: Harness) -> list[SequenceId]:
    """In the order of their first tokens."""
    steps = [each for each in harness.said if isinstance(each, Step)]
    return list(dict.fromkeys(delta.sequence for step in steps for delta in step.deltas))


def test_of_a_conversation_only_what_is_new_keeps_others_waiting(loaded: Loaded) -> None:
    harness = Harness(loaded, prefixes=True, max_running=1)
    earlier = wait(harness, "earlier", range(100, 600))
    harness.finish(earlier)
    busy = harness.submit("hello", stopping=Stopping(max_tokens=500, ignore_eos=True))
    harness.turn(2)
    other = wait(harness, "other", range(200, 420))
    later = wait(harness, "later", range(100, 620))
    harness.turn()
    harness.cancel(busy)
    harness.finish(other, later)
    assert answered(harness) == [earlier, busy, later, other]
