"""An mlx-lm model as its makers see it: typed, built from a config, its weights by name."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, cast

import mlx.core as mx
from mlx.utils import tree_flatten, tree_unflatten

Config = Mapping[str, object]


Tree = Mapping[str, object]
"""Arrays in nested dictionaries and lists."""


class Embedding(Protocol):
    """The token embedding, which is the output layer too where they are tied."""

    def as_linear(self, hidden: mx.array, /) -> mx.array:
        """Logits, (…, vocabulary), from hidden states, (…, hidden)."""


class Body(Protocol):
    """A model but for its output layer."""

    embed_tokens: Embedding

    def __call__(self, tokens: mx.array, /) -> mx.array:
        """Hidden states, (batch, length, hidden), for tokens, (batch, length)."""


class Network(Protocol):
    """What mlx-lm's model classes have in common."""

    model: Body

    def __call__(self, tokens: mx.array, /) -> mx.array:
        """Logits, (batch, length, vocabulary), for tokens, (batch, length)."""

    def parameters(self) -> Tree:
        """A tree of arrays."""

    def update(self, parameters: Tree, /) -> object:
        """Take these arrays in place of the present ones."""


def build(config: Config) -> Network:
    """The model that `config` describes, with mlx-lm's own starting weights."""
    module = importlib.import_module(f"mlx_lm.models.{config['model_type']}")
    return cast(Network, module.Model(module.ModelArgs.from_dict(config)))


def named_weights(network: Network) -> dict[str, mx.array]:
    """Every weight under its dotted name."""
    return cast(dict[str, mx.array], tree_flatten(network.parameters(), destination={}))


def save_weights(weights: dict[str, mx.array], folder: Path) -> None:
    """Write `model.safetensors` as mlx-lm reads it."""
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})


def load_named(network: Network, weights: dict[str, mx.array]) -> None:
    """Take these weights."""
    network.update(cast(Tree, tree_unflatten(list(weights.items()))))
    mx.eval(network.parameters())


def load_weights(network: Network, folder: Path) -> None:
    """Take the weights that were saved in `folder`."""
    load_named(network, cast(dict[str, mx.array], mx.load(str(folder / "model.safetensors"))))
