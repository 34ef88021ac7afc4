"""The guide's starting weights: small random ones, and two attention heads that can look things up already.

A tool call copies names and values from the prompt, for which a transformer needs an induction circuit: a
head that tells each token what stood before it, and in a later layer a head that finds where the present one
stood before and gives what came after it (Olsson et al., "In-context Learning and Induction Heads", 2022).
Training finds the circuit by itself, but only after many more steps than the rest takes; so it is laid out by
hand, and training refines it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import mlx.core as mx

from scripts.guide.network import Network, load_named, named_weights

SPACE = "\u0120"
"""How byte-level BPE writes a space."""
SMALL = 0.02
"""Standard deviation of all other weights."""
CONSTANT = 0.316
"""Every token's embedding has this in its first place, so that a head can act whatever the token is."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What the layout depends on."""

    hidden: int
    heads: int
    layers: int
    theta: float

    @property
    def head(self) -> int:
        """Width of a head; the last so many places of the hidden state start as a scratch pad."""
        return self.hidden // self.heads

    @property
    def token(self) -> slice:
        """Places of the hidden state that say which token it is."""
        return slice(1, self.hidden - self.head)

    @property
    def pad(self) -> slice:
        """Places of the hidden state that will say which token stood before."""
        return slice(self.hidden - self.head, self.hidden)


def start(network: Network, shape: Shape, vocabulary: Mapping[str, int], seed: int) -> None:
    """Give `network` its starting weights; `vocabulary` is the tokenizer's, from tokens to ids."""
    mx.random.seed(seed)
    weights = {name: _small(name, old, shape) for name, old in named_weights(network).items()}
    projection = mx.random.normal((shape.head, shape.hidden - shape.head - 1))
    projection = projection / mx.linalg.norm(projection, axis=1, keepdims=True)
    weights["model.embed_tokens.weight"] = _embeddings(vocabulary, shape)
    _previous_token_head(weights, "model.layers.0.self_attn", projection, shape)
    _induction_head(weights, "model.layers.1.self_attn", projection, shape)
    load_named(network, weights)


def _small(name: str, old: mx.array, shape: Shape) -> mx.array:
    if "norm" in name:
        return mx.ones(old.shape)
    into_residual = "o_proj" in name or "down_proj" in name
    return mx.random.normal(old.shape) * (SMALL / (2 * shape.layers) ** 0.5 if into_residual else SMALL)


def _embeddings(vocabulary: Mapping[str, int], shape: Shape) -> mx.array:
    """Directions of length one, the constant before and an empty scratch pad behind.

    They are random, but a word with a space before it starts near the same word without: in a question there
    is one, and in a tool call, right behind the quotation mark, none.
    """
    tokens = len(vocabulary)
    directions = mx.random.normal((tokens, shape.hidden - shape.head - 1))
    bare = [
        vocabulary.get(token.removeprefix(SPACE), at) for token, at in sorted(vocabulary.items(), key=_id)
    ]
    directions = directions[mx.array(bare)] + 0.5 * mx.random.normal(directions.shape)
    directions = directions / mx.linalg.norm(directions, axis=1, keepdims=True)
    return mx.concatenate(
        [mx.full((tokens, 1), CONSTANT), directions, mx.zeros((tokens, shape.head))], axis=1
    )


def _id(entry: tuple[str, int]) -> int:
    return entry[1]


def _previous_token_head(weights: dict[str, mx.array], name: str, projection: mx.array, shape: Shape) -> None:
    """Layer 0, head 0: attends one place back and writes that token's projection on the scratch pad.

    A query turned back by one position meets a constant key best where the two are one position apart.
    """
    half = shape.head // 2
    sharp = 4
    angles = shape.theta ** (-mx.arange(sharp) / half)
    strength = 2.0
    query, key = weights[f"{name}.q_proj.weight"], weights[f"{name}.k_proj.weight"]
    query[: shape.head, 0] = 0.0
    key[: shape.head, 0] = 0.0
    query[:sharp, 0] = strength * mx.cos(angles)
    query[half : half + sharp, 0] = -strength * mx.sin(angles)
    key[:sharp, 0] = strength
    weights[f"{name}.v_proj.weight"][: shape.head, shape.token] = projection
    weights[f"{name}.o_proj.weight"][shape.pad, : shape.head] = 0.08 * mx.eye(shape.head)


def _induction_head(weights: dict[str, mx.array], name: str, projection: mx.array, shape: Shape) -> None:
    """Layer 1, head 0: attends to where the token before was the present one, and says what stood there.

    Only the slowly turning half of the head compares, so that distance hardly matters.
    """
    half = shape.head // 2
    slow = mx.concatenate([mx.arange(half) >= half // 2] * 2)[:, None]
    sharpness, loudness = 3.0, 1.0
    weights[f"{name}.q_proj.weight"][: shape.head, shape.token] = sharpness * projection * slow
    weights[f"{name}.k_proj.weight"][: shape.head, shape.pad] = sharpness * mx.eye(shape.head) * slow
    weights[f"{name}.v_proj.weight"][: shape.head, shape.token] = projection
    weights[f"{name}.o_proj.weight"][shape.token, : shape.head] = loudness * projection.T
