"""An mlx-lm model as its makers see it: typed, built from a config, its weights by name."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, cast

import mlx.core as mx
from mlx.utils import tree_flatten

Config = Mapping[str, object]


class Network(Protocol):
    """What mlx-lm's model classes have in common."""

    def __call__(self, tokens: mx.array, /) -> mx.array:
        """Logits, (batch, length, vocabulary), for tokens, (batch, length)."""

    def parameters(self) -> Mapping[str, object]:
        """A tree of arrays."""

    def update(self, parameters: Mapping[str, object], /) -> object:
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
