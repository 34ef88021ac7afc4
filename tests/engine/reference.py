"""What mlx-lm's own loop generates: the tokens that ours are held to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import mlx.core as mx
from mlx_lm.generate import generate_step

from engine.border import Network


def greedy(network: Network, prompt: Sequence[int], tokens: int) -> list[int]:
    """Of a model that is not divided."""
    steps: Iterator[tuple[mx.array, mx.array]] = generate_step(
        mx.array(list(prompt)), network.model, max_tokens=tokens
    )
    return [int(token) for token, _ in islice(steps, tokens)]


def greedy_of(folder: Path, prompt: Sequence[int], tokens: int) -> list[int]:
    return greedy(Network(folder), prompt, tokens)
