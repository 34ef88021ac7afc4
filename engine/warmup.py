"""The first steps of a fresh model: compiles what is compiled at first use, and measures what steps cost."""

import time
from dataclasses import dataclass
from typing import Final

from engine.batch import Batch
from engine.pace import Pace
from engine.sampling import Row

PROMPT: Final = 257
"""Tokens: two slices and the one with which the sequence joins."""
SLICE: Final = 128
DECODES: Final = 4


@dataclass(frozen=True, slots=True)
class Warm:
    """What the first steps taught."""

    pace: Pace
    vocabulary: int
    """How many token ids the model has: at least as many as its tokenizer."""


def warm_up(batch: Batch, pace: Pace, context: int, tokens: int) -> Warm:
    """Prefill a short prompt and decode a few tokens. `tokens`: how many the tokenizer has."""
    length = max(min(PROMPT, context - DECODES - 1), 1)
    prompt = [index % tokens for index in range(length)]
    uid = batch.insert(prompt, Row(), None)
    vocabulary = 0
    decoded = 0
    while decoded < DECODES:
        started = time.monotonic()
        outcome = batch.step(SLICE)
        took = time.monotonic() - started
        # The first slice compiles and reads memory in: what it took is no measure.
        if outcome.sliced and outcome.position:
            pace = pace.after_slice(took, outcome.sliced, outcome.position, SLICE, decoding=False)
        for part in outcome.chosen:
            vocabulary = part.logprobs.shape[-1]
            decoded += 1
            pace = pace.after_decode(took)
    batch.remove([uid])
    batch.settle()
    return Warm(pace, vocabulary)
