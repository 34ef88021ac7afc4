"""The first steps of a fresh model: compiles what is compiled at first use, and measures what steps cost."""

import time
from dataclasses import dataclass
from typing import Final

from engine.batch import Batch
from engine.pace import Pace
from engine.sampling import Row
from engine.threads import Threads

PROMPT: Final = 257
"""Tokens: two slices and the one with which the sequence joins."""
SLICE: Final = 128
DECODES: Final = 4
"""Steps per number of threads that is tried; the first of them is not counted."""


@dataclass(frozen=True, slots=True)
class Warm:
    """What the first steps taught."""

    pace: Pace
    vocabulary: int
    """How many token ids the model has: at least as many as its tokenizer."""


def warm_up(batch: Batch, pace: Pace, context: int, tokens: int, threads: Threads) -> Warm:
    """Prefill a short prompt and decode a few tokens. `tokens`: how many the tokenizer has."""
    length = max(min(PROMPT, context - 1), 1)
    prompt = [index % tokens for index in range(length)]
    uid = batch.insert(prompt, Row(), None)
    pace = _prefill(batch, pace)
    vocabulary = 0
    decode_s: dict[int, float] = {}
    for count in threads.candidates:
        threads.try_decode(count)
        took = []
        for _ in range(DECODES):
            started = time.monotonic()
            (part,) = batch.step(SLICE).chosen
            vocabulary = part.logprobs.shape[-1]
            took.append(time.monotonic() - started)
        decode_s[count] = min(took[1:])
    threads.settle(decode_s)
    batch.remove([uid])
    batch.settle()
    return Warm(pace.after_decode(min(decode_s.values())), vocabulary)


def _prefill(batch: Batch, pace: Pace) -> Pace:
    """Until the sequence has joined those that decode; its last step computes its first token."""
    while batch.prefilling or batch.joining:
        started = time.monotonic()
        outcome = batch.step(SLICE)
        # The first slice compiles and reads memory in: what it took is no measure.
        if outcome.sliced and outcome.position:
            took = time.monotonic() - started
            pace = pace.after_slice(took, outcome.sliced, outcome.position, SLICE, decoding=False)
    return pace
