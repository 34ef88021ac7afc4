"""The first steps of a fresh model: compiles what is compiled at first use, and measures what steps cost."""

import time
from dataclasses import dataclass
from typing import Final

from engine.memory.footprint import Footprint
from engine.scheduling.batch import Batch
from engine.scheduling.pace import Pace
from engine.steps.entry import Entry
from engine.steps.stepper import Stepper
from engine.threads import Threads

LONG: Final = 1537
"""Tokens of the prompt that is measured: enough to see how attention's cost grows with the position, so that
the first long prompt of somebody else is sliced as well as the tenth."""
LONG_S: Final = 1.0
"""How long that may take; slow models are measured on less of it."""
SHORT: Final = 33
SLICE: Final = 128
DECODES: Final = 4
"""Steps per number of threads that is tried; the first of them is not counted."""


@dataclass(frozen=True, slots=True)
class Warm:
    """What the first steps taught."""

    pace: Pace
    footprint: Footprint
    """What sequences cost on this rank."""
    vocabulary: int
    """How many token ids the model has: at least as many as its tokenizer."""


def warm_up(stepper: Stepper, batch: Batch, pace: Pace, longest: int, tokens: int, threads: Threads) -> Warm:
    """Prefill a prompt of `longest` tokens to measure that, and decode a few tokens after a short one.

    `longest`: no more than the context; LONG is enough, and with SHORT prefill is not measured. `tokens`: how
    many the tokenizer has.
    """
    if longest > SHORT:
        pace = _measure_prefill(batch, pace, _prompt(longest, tokens))
    uid = batch.insert(Entry(_prompt(min(SHORT, longest), tokens)))
    while batch.prefilling or batch.joining:
        batch.step(SLICE)
    decode_s: dict[int, float] = {}
    for count in threads.candidates:
        threads.try_decode(count)
        took = []
        for _ in range(DECODES):
            started = time.monotonic()
            batch.step(SLICE)
            took.append(time.monotonic() - started)
        decode_s[count] = min(took[1:])
    threads.settle(decode_s)
    footprint = stepper.footprint()
    batch.remove([uid])
    batch.tidy()
    stepper.settle()
    return Warm(pace.after_decode(min(decode_s.values())), footprint, stepper.vocabulary)


def _prompt(length: int, tokens: int) -> list[int]:
    return [index % tokens for index in range(max(length - 1, 1))]


def _measure_prefill(batch: Batch, pace: Pace, prompt: list[int]) -> Pace:
    """Prefill a prompt, as far as the time allows, and forget it."""
    uid = batch.insert(Entry(prompt))
    began = time.monotonic()
    while batch.prefilling and time.monotonic() - began < LONG_S:
        started = time.monotonic()
        outcome = batch.step(SLICE)
        # The first slice compiles and reads memory in: what it took is no measure.
        if outcome.position:
            took = time.monotonic() - started
            pace = pace.after_slice(took, outcome.sliced, outcome.position, SLICE)
    batch.remove([uid])
    return pace
