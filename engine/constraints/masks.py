"""Which tokens each row of a batch may take next: filled beside the forward pass, applied to its logits."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import mlx.core as mx
import numpy as np
from llguidance import LLExecutor, LLMatcher
from numpy.typing import NDArray

from engine.constraints.constraint import Constraint

_WORTH_THREADS: Final = 4
"""Fewer rows than this are filled sooner than threads are woken."""


@dataclass(frozen=True, slots=True)
class Masks:
    """For one step of a batch."""

    allowed: NDArray[np.bool_] | None
    """[batch, the tokenizer's vocabulary, rounded up]; None: no row is held to anything."""
    free: tuple[bool, ...] = ()
    """Rows that may take any token, also such as the tokenizer does not have."""

    def apply(self, logits: mx.array) -> mx.array:
        """Logits [batch, vocabulary] with minus infinity in place of what is not allowed."""
        if self.allowed is None:
            return logits
        batch, vocabulary = logits.shape
        allowed = self.allowed[:, :vocabulary]
        if (missing := vocabulary - allowed.shape[1]) > 0:
            beyond = np.broadcast_to(np.array(self.free)[:, None], (batch, missing))
            allowed = np.concatenate([allowed, beyond], axis=1)
        nothing = mx.array(-float("inf"), dtype=logits.dtype)
        return mx.where(mx.array(np.ascontiguousarray(allowed)), logits, nothing)


def fill(rows: Sequence[Constraint | None]) -> Masks:
    """Look up what each row may take next; nothing is asked of MLX. None: a row without a constraint.

    A row whose constraint fails here is let go free: its `failure` says why.
    """
    held = [(place, row) for place, row in enumerate(rows) if row is not None and not row.free]
    if not held:
        return Masks(None)
    words = np.zeros((len(rows), -(-len(held[0][1].words) // 32)), dtype=np.uint32)
    _compute([(row.matcher, place) for place, row in held if row.matcher is not None], words)
    # Unpacked here rather than on the device: it costs next to nothing, and nobody waits for it.
    allowed = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little").view(np.bool_)
    free = [True] * len(rows)
    for place, row in held:
        free[place] = not row.settle(allowed[place])
    allowed[free] = True
    return Masks(allowed, tuple(free))


def apply(logits: mx.array, rows: Sequence[Constraint | None]) -> mx.array:
    """Logits [batch, vocabulary] as the rows' constraints leave them."""
    return fill(rows).apply(logits)


def _compute(jobs: list[tuple[LLMatcher, int]], words: NDArray[np.uint32]) -> None:
    if len(jobs) >= _WORTH_THREADS:
        _threads().unsafe_compute_mask_ptr(jobs, words.ctypes.data, words.shape[1] * 4, len(words))
        return
    for matcher, place in jobs:
        matcher.unsafe_compute_mask_ptr(words[place].ctypes.data, words.shape[1] * 4)


@cache
def _threads() -> LLExecutor:
    return LLExecutor()
