"""A model of one process with an index and segments, and prompts that are computed the way a lane does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import mlx.core as mx

from engine.border import Network
from engine.memory.caches import Cache, compute, merged
from engine.prefixes.index import Index
from engine.prefixes.layers import is_sliceable
from engine.prefixes.segments import Segments
from engine.steps.store_orders import Fetch, Forget, Keep, Mark, Save, Split, StoreOrder

Quantise = Callable[[list[Cache]], list[Cache]]
"""What is made of a model's own caches."""


def as_they_are(caches: list[Cache]) -> list[Cache]:
    return caches


@dataclass
class Computed:
    """One that is computed, in a batch of its own."""

    tokens: list[int]
    caches: list[Cache]


def carry_out(segments: Segments, orders: Sequence[StoreOrder], caches: Sequence[Cache]) -> None:
    """The orders of an index, as a rank does; `caches` are of a batch with one row."""
    for order in orders:
        match order:
            case Keep():
                segments.keep(order, caches, row=0)
            case Mark():
                segments.mark(order, caches, row=0)
            case Split():
                segments.split(order)
            case Forget():
                segments.forget(order)
            case Fetch() | Save():
                raise AssertionError("no index gives these")


def likeliest(logits: mx.array) -> int:
    return cast(int, mx.argmax(logits).item())


class KeepingModel:
    """Computes prompts, one after another, from the longest prefix that is kept."""

    def __init__(self, folder: Path, caches: Quantise = as_they_are) -> None:
        self.network = Network(folder)
        self._caches = caches
        self.index = Index(is_sliceable(self.fresh()), 1, 1)
        self.segments = Segments(self.fresh)
        self._uid = 0

    def fresh(self) -> list[Cache]:
        return self._caches(self.network.make_caches())

    def begin(self, tokens: Sequence[int]) -> tuple[Computed, int]:
        """With what is kept of all but the last; returns how much that is, too."""
        hit = self.index.match(tokens, len(tokens) - 1)
        return Computed(list(tokens[: hit.length]), merged([self.segments.fetch(hit.path)])), hit.length

    def go_on(self, sequence: Computed, tokens: Sequence[int], slice_tokens: int = 512) -> mx.array:
        """Compute more tokens; returns the last one's logits."""
        logits = mx.zeros(())
        for start in range(0, len(tokens), slice_tokens):
            part = tokens[start : start + slice_tokens]
            logits = self.network.forward(mx.array([list(part)]), sequence.caches)
            mx.eval(logits)
            compute(sequence.caches)
            sequence.tokens += part
        return logits[0, -1]

    def keep(self, sequence: Computed) -> None:
        self._uid += 1
        orders = self.index.keep(sequence.tokens, self._uid, stands_at_end=True)
        carry_out(self.segments, orders, sequence.caches)

    def answer(self, prompt: Sequence[int], tokens: int, marks: Sequence[int] = ()) -> tuple[list[int], int]:
        """Greedy tokens, and how many of the prompt's were kept; keeps what stands at `marks` and at the end
        of the prompt and of the answer."""
        sequence, cached = self.begin(prompt)
        places = [mark for mark in (*marks, len(prompt)) if mark > cached]
        logits = mx.zeros(())
        for place in places:
            logits = self.go_on(sequence, prompt[len(sequence.tokens) : place])
            self.keep(sequence)
        answer: list[int] = []
        while True:
            answer.append(likeliest(logits))
            if len(answer) == tokens:
                break
            logits = self.go_on(sequence, answer[-1:])
        self.keep(sequence)
        return answer, cached
