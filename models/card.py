"""What a model's `config.json` says that placing and serving it needs to know."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

Json: TypeAlias = "Mapping[str, Json] | list[Json] | str | int | float | bool | None"

_BYTES_PER_ELEMENT = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model's shape, as far as its configuration tells it."""

    architecture: str
    """`model_type` of the configuration."""
    context: int | None
    """The most tokens that it was made for, prompt and answer together."""
    layers: int
    kv_heads: int
    head_dim: int
    element_bytes: int
    """Bytes of a number in the KV cache: that of the weights as they are stored."""
    quantization: str
    """Such as `4-bit`; empty for none."""

    @property
    def kv_bytes_per_token(self) -> int:
        """Keys and values of all layers for one token.

        An upper bound: sliding-window layers stop growing and latent attention keeps less.
        """
        return 2 * self.layers * self.kv_heads * self.head_dim * self.element_bytes


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
    heads = _integer(text, "num_attention_heads") or 1
    hidden = _integer(text, "hidden_size") or 0
    return ModelCard(
        architecture=architecture,
        context=_integer(text, "max_position_embeddings") or _integer(text, "n_positions"),
        layers=_integer(text, "num_hidden_layers") or _integer(text, "n_layer") or 1,
        kv_heads=_integer(text, "num_key_value_heads") or heads,
        head_dim=_integer(text, "head_dim") or hidden // heads,
        element_bytes=_element_bytes(text, config),
        quantization=_quantization(config),
    )


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
