"""MLX's and mlx-lm's untyped side: the one file where a model is touched without types.

What comes out of it is typed.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
from mlx.nn.layers import distributed
from mlx.nn.layers.base import Module
from mlx.utils import tree_flatten, tree_map
from mlx_lm import utils
from mlx_lm.models.cache import make_prompt_cache

from engine.memory.caches import Cache

_SHARDED = (
    distributed.AllToShardedLinear,
    distributed.ShardedToAllLinear,
    distributed.QuantizedAllToShardedLinear,
    distributed.QuantizedShardedToAllLinear,
)

Processor = Callable[[mx.array, mx.array], mx.array]
"""A logits processor of mlx-lm's kind: changes logits [1, vocabulary] in view of all tokens so far, [n]."""


# -- the model -----------------------------------------------------------------------------------


class Network:
    """A model whose weights are read when they are first asked for."""

    def __init__(self, folder: Path) -> None:
        """Raises what mlx-lm raises for folders and files that it can't read."""
        self.model: Any
        self.model, self.config = utils.load_model(folder, lazy=True)

    @property
    def layers(self) -> list[Module]:
        return list(self.model.layers)

    @property
    def architecture(self) -> str:
        """mlx-lm's name for it."""
        return str(self.config.get("model_type", "unknown"))

    def make_caches(self) -> list[Cache]:
        """Empty ones for one sequence, as the model asks for them: mostly one per layer."""
        return cast("list[Cache]", make_prompt_cache(self.model))

    def forward(self, tokens: mx.array, caches: list[Cache]) -> mx.array:
        """Logits [batch, tokens, vocabulary] of `tokens` [batch, tokens], computed when asked for."""
        return cast(mx.array, self.model(tokens, cache=caches))

    def hidden(self, tokens: mx.array, caches: list[Cache]) -> mx.array:
        """Hidden states [batch, tokens, width] as the model's head gets them: after the final norm."""
        whole = getattr(self.model, "language_model", self.model)
        return cast(mx.array, whole.model(tokens, cache=caches))

    @property
    def can_shard(self) -> bool:
        """Whether mlx-lm can divide its layers between ranks."""
        return hasattr(self.model, "shard")

    def shard(self, group: mx.distributed.Group) -> None:
        """Keep this rank's part of each layer; the ranks of the group add up what theirs compute."""
        self.model.shard(group)

    @property
    def shards_head(self) -> bool:
        """Whether `shard` divided more than layers: then all ranks of a group make logits together, too."""
        inside = {id(part) for layer in self.layers for _, part in cast(Any, layer).named_modules()}
        parts = cast(Any, self.model).named_modules()
        return any(isinstance(part, _SHARDED) and id(part) not in inside for _, part in parts)


def weights_of(layer: Module) -> list[mx.array]:
    """All of a layer's."""
    flat: Any = tree_flatten(cast(Any, layer).parameters())
    return [weight for _, weight in flat]


def forget_weights(layer: Module) -> None:
    """Leave nothing of them in memory; the layer can't be computed any more."""
    nothing, own = mx.zeros((0,)), cast(Any, layer)
    own.update(tree_map(lambda weight: nothing, own.parameters()))


# -- computing -----------------------------------------------------------------------------------


def start(*arrays: mx.array) -> None:
    """Have them computed, and don't wait for it."""
    cast(Any, mx).async_eval(*arrays)


def side_stream() -> mx.Stream:
    """A stream beside the one that steps run on: what runs on it waits for no step."""
    return mx.new_stream(mx.cpu)


# -- memory --------------------------------------------------------------------------------------


def active_bytes() -> int:
    """All memory that MLX holds for arrays."""
    return int(mx.get_active_memory())


def cached_bytes() -> int:
    """Freed memory that MLX keeps for reuse."""
    return int(mx.get_cache_memory())


def limit_cache(limit_bytes: int) -> None:
    """How much freed memory MLX may keep for reuse."""
    mx.set_cache_limit(limit_bytes)


def give_back_memory() -> None:
    """Wait until nothing is being computed and give back the memory that was kept for reuse."""
    mx.synchronize()
    mx.clear_cache()
