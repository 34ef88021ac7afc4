"""Trains a network on examples: batches of equal length, AdamW, a rate that rises and falls."""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, cast

import mlx.core as mx
from mlx.nn.losses import cross_entropy
from mlx.optimizers import AdamW, clip_grad_norm, cosine_decay, join_schedules, linear_schedule

from scripts.guide.corpus import Corpus
from scripts.guide.encoding import Encoder, Example
from scripts.guide.network import Network, Tree, named_weights, save_weights

Schedule: TypeAlias = Callable[[mx.array], mx.array]

POOL = 400
"""Examples that are sorted by length together; a batch is cut from neighbours, so little is padding."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How it is trained."""

    steps: int
    seed: int = 0
    batch_tokens: int = 1024
    rate: float = 2e-3
    warm_up: int = 200
    save_every: int = 250


@dataclass(frozen=True, slots=True)
class Batch:
    """Conversations of about one length, and where in them the model has to speak."""

    tokens: mx.array
    """(batch, length)"""
    places: mx.array
    """(said,): indices into the flattened tokens, each just before a token that the model has to say."""
    said: mx.array
    """(said,): those tokens."""


def batches(corpus: Corpus, encoder: Encoder, recipe: Recipe) -> Iterator[Batch]:
    """Batches without end."""
    rng = random.Random(recipe.seed)
    while True:
        pool = [encoder.example(corpus.conversation(rng)) for _ in range(POOL)]
        pool.sort(key=lambda example: len(example.tokens))
        groups = list(_groups(pool, recipe.batch_tokens))
        rng.shuffle(groups)
        yield from map(_batch, groups)


def _groups(pool: list[Example], budget: int) -> Iterator[list[Example]]:
    group: list[Example] = []
    for example in pool:
        if group and (len(group) + 1) * len(example.tokens) > budget:
            yield group
            group = []
        group.append(example)
    yield group


def _batch(examples: list[Example]) -> Batch:
    length = max(len(example.tokens) for example in examples)
    padded = [example.tokens + (0,) * (length - len(example.tokens)) for example in examples]
    places = [
        row * length + column - 1
        for row, example in enumerate(examples)
        for column, says in enumerate(example.said)
        if says
    ]
    said = [
        token
        for example in examples
        for token, says in zip(example.tokens, example.said, strict=True)
        if says
    ]
    return Batch(mx.array(padded), mx.array(places), mx.array(said))


def _loss(network: Network, batch: Batch) -> mx.array:
    """Mean cross entropy of what has to be said; the output layer is computed for nothing else."""
    hidden = network.model(batch.tokens)
    before = hidden.reshape(-1, hidden.shape[-1])[batch.places]
    return cross_entropy(network.model.embed_tokens.as_linear(before), batch.said, reduction="mean")


def train(network: Network, corpus: Corpus, encoder: Encoder, recipe: Recipe, folder: Path) -> float:
    """Train `network` in place, save it into `folder` now and then; returns the seconds that it took."""

    def loss(parameters: Tree, batch: Batch) -> mx.array:
        network.update(parameters)
        return _loss(network, batch)

    loss_and_gradients = mx.value_and_grad(loss)
    optimizer = AdamW(learning_rate=_rate(recipe), betas=[0.9, 0.98], weight_decay=0.01)
    began = time.monotonic()
    mean = 0.0
    for step, batch in zip(range(1, recipe.steps + 1), batches(corpus, encoder, recipe), strict=False):
        value, gradients = loss_and_gradients(network.parameters(), batch)
        network.update(optimizer.apply_gradients(_clipped(gradients), dict(network.parameters())))
        mx.eval(network.parameters(), optimizer.state)
        mean += (cast(float, value.item()) - mean) / min(step, 50)
        if step % 50 == 0:
            print(f"step {step}: loss {mean:.4f}, {time.monotonic() - began:.0f} s", flush=True)
        if step % recipe.save_every == 0 or step == recipe.steps:
            save_weights(named_weights(network), folder)
    return time.monotonic() - began


def _clipped(gradients: Tree) -> dict[str, object]:
    """Gradients whose norm is at most 1: one odd batch can't throw the weights off."""
    clip = cast(Callable[[Tree, float], tuple[dict[str, object], mx.array]], clip_grad_norm)
    return clip(gradients, 1.0)[0]


def _rate(recipe: Recipe) -> Schedule:
    rise = linear_schedule(0.0, recipe.rate, recipe.warm_up)
    fall = cosine_decay(recipe.rate, recipe.steps - recipe.warm_up, recipe.rate * 0.02)
    return join_schedules([rise, fall], [recipe.warm_up])
