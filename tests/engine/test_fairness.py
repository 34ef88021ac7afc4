"""Who is next, of those that wait."""

from __future__ import annotations

import time
from dataclasses import replace

from bus.messages.base import SequenceId
from bus.messages.engine import Step, Submit
from bus.messages.generation import Stopping, TokenPrompt
from engine.life import sequence_of
from engine.loader import Loaded
from engine.text.sequence import Sequence
from engine.work import Job
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


def test_those_who_run_get_tokens_while_many_come_in_with_long_answers_to_be_read_again(
    loaded: Loaded,
) -> None:
    told: list[int] = []

    def slow(job: Job, loaded: Loaded) -> Sequence:
        if job.resumed:
            told.append(len(harness.deltas(running)))
            over_s = time.monotonic() + 0.02
            while time.monotonic() < over_s:
                pass
        return sequence_of(job, loaded)

    harness = Harness(loaded, gap_s=0.01, sequence_of=slow)
    running = harness.submit("hello", stopping=Stopping(max_tokens=100, ignore_eos=True))
    harness.turn(2)
    come = [SequenceId(f"come/{each}") for each in range(4)]
    for name in come:
        submit = Submit(name, TokenPrompt((5, 6)), GREEDY, FEW, resume=(7,))
        harness.inbox.put(harness.intake.accept(submit))
    harness.finish(*come)
    assert told[0] < told[-1]
