"""What a model's `config.json` says that placing and serving it needs to know."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

Json: TypeAlias = "Mapping[str, Json] | list[Json] | str | int | float | bool | None"

_BYTES_PER_ELEMENT = {"float32": 4, "float16": 2, "bfloat16": 2}


_EXPANDED_LATENT = frozenset({"deepseek_v2", "minicpm3", "youtu_llm"})
"""Architectures with latent attention whose implementations in mlx-lm cache full keys and values."""

_CONSTANT_STATE = frozenset({"linear_attention", "mamba", "conv", "recurrent"})
"""Kinds of layers whose state does not grow with the context."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model's shape, as far as its configuration tells it."""

    architecture: str
    """`model_type` of the configuration."""
    context: int | None
    """The most tokens that it was made for, prompt and answer together."""
    layers: int
    heads: int
    kv_heads: int
    hidden: int
    element_bytes: int
    """Bytes of a number in the KV cache: that of the weights as they are stored."""
    quantization: str
    """Such as `4-bit`; empty for none."""
    kv_bytes_per_token: tuple[int, ...]
    """What each layer keeps of one token. An upper bound: sliding-window layers stop growing."""
    kv_divides: bool = True
    """The cache can be shared out by heads; latent attention has one that all heads read."""
    active_experts: float = 1.0
    """Share of a mixture's experts that a token goes through."""
    vocabulary: int | None = None
    """Rows of its table of tokens."""


def read_card(folder: Path) -> ModelCard:
    """The card of the model in `folder`; ValueError says what is wrong and what to do."""
    path = folder / "config.json"
    try:
        config: Json = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError("has no config.json: copy the model's whole folder") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"config.json can't be read ({error}): copy it again") from error
    if not isinstance(config, dict):
        raise ValueError("config.json holds no object: copy it again")
    return card_from(config)


def card_from(config: Mapping[str, Json]) -> ModelCard:
    """The card of a configuration; the part about text counts where there are several."""
    architecture = config.get("model_type")
    if not isinstance(architecture, str) or not architecture:
        raise ValueError("config.json names no model_type: this is not a model that mlx-lm can load")
    nested = config.get("text_config")
    text = nested if isinstance(nested, dict) else config
    heads = _first(text, "num_attention_heads", "n_head") or 1
    hidden = _first(text, "hidden_size", "n_embd") or 0
    layers = _first(text, "num_hidden_layers", "n_layer", "num_layers") or 1
    kv_heads = _integer(text, "num_key_value_heads") or heads
    element_bytes = _element_bytes(text, config)
    latent = _integer(text, "kv_lora_rank") is not None and architecture not in _EXPANDED_LATENT
    numbers = _kv_numbers(text, heads, kv_heads, _integer(text, "head_dim") or hidden // heads, latent)
    return ModelCard(
        architecture=architecture,
        context=_first(text, "max_position_embeddings", "n_positions"),
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        hidden=hidden,
        element_bytes=element_bytes,
        quantization=_quantization(config),
        kv_bytes_per_token=tuple(numbers * element_bytes if grows else 0 for grows in _growing(text, layers)),
        kv_divides=not latent,
        active_experts=_active_experts(text),
        vocabulary=_integer(text, "vocab_size") or _integer(config, "vocab_size"),
    )


def _kv_numbers(config: Mapping[str, Json], heads: int, kv_heads: int, head_dim: int, latent: bool) -> int:
    """How many numbers a layer with attention keeps of a token."""
    rank, rope = _integer(config, "kv_lora_rank"), _integer(config, "qk_rope_head_dim") or 0
    if rank is None:
        return 2 * kv_heads * head_dim
    if latent:
        # Sparse attention (DeepSeek V3.2) keeps its indexer's keys as well, twice.
        return rank + rope + 2 * (_integer(config, "index_head_dim") or 0)
    key = (_integer(config, "qk_nope_head_dim") or head_dim) + rope
    return heads * (key + (_integer(config, "v_head_dim") or head_dim))


def _growing(config: Mapping[str, Json], layers: int) -> list[bool]:
    """Whether each layer's cache grows with the context."""
    kinds, interval = config.get("layer_types"), _integer(config, "full_attention_interval")
    if isinstance(kinds, list) and len(kinds) >= layers:
        return [kind not in _CONSTANT_STATE for kind in kinds[:layers]]
    if interval is not None:
        return [(layer + 1) % interval == 0 for layer in range(layers)]
    return [True] * layers


def _active_experts(config: Mapping[str, Json]) -> float:
    experts = _first(config, "num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts")
    chosen = _first(
        config, "num_experts_per_tok", "num_experts_per_token", "experts_per_token", "top_k_experts", "moe_k"
    )
    return min(1.0, chosen / experts) if experts and chosen else 1.0


def _first(config: Mapping[str, Json], *keys: str) -> int | None:
    """The first of these that the configuration has."""
    return next((value for key in keys if (value := _integer(config, key)) is not None), None)


def _integer(config: Mapping[str, Json], key: str) -> int | None:
    value = config.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _element_bytes(*configs: Mapping[str, Json]) -> int:
    for config in configs:
        for key in ("dtype", "torch_dtype"):
            value = config.get(key)
            if isinstance(value, str) and value in _BYTES_PER_ELEMENT:
                return _BYTES_PER_ELEMENT[value]
    return 2


def _quantization(config: Mapping[str, Json]) -> str:
    for key in ("quantization", "quantization_config"):
        value = config.get(key)
        if isinstance(value, dict):
            bits = value.get("bits")
            method = value.get("quant_method")
            return f"{bits}-bit" if isinstance(bits, int) else str(method or "quantized")
    return ""
