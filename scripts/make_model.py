"""Makes models with random weights, of every architecture that the tests and benchmarks need.

python -m scripts.make_model llama FOLDER --layers 8 --hidden 512 --context 16384
"""

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path

import mlx.core as mx
from mlx_lm.utils import load_model, quantize_model
from tokenizers import Tokenizer

from scripts.guide.network import Config, Network, build, named_weights, save_weights
from scripts.guide.tokenizer import END, PAD, save_tokenizer

ROOT = Path(__file__).parent.parent
GROUP_SIZE = 64
"""Weights that have a scale in common, where they are quantised."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
    """How large a model is. The defaults can be split into 2 or 4 stages or 2 tensor ranks."""

    layers: int = 4
    hidden: int = 64
    heads: int = 4
    kv_heads: int = 2
    intermediate: int | None = None
    """None: twice `hidden`."""
    experts: int = 4
    context: int = 2048
    """Tokens of prompt and answer together."""

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    @property
    def feed_forward(self) -> int:
        return self.intermediate or 2 * self.hidden


def _common(size: Size) -> Config:
    return {
        "hidden_size": size.hidden,
        "num_hidden_layers": size.layers,
        "intermediate_size": size.feed_forward,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.kv_heads,
        "head_dim": size.head_dim,
        "max_position_embeddings": size.context,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
    }


def _qwen3_moe(size: Size) -> Config:
    return {
        "num_experts": size.experts,
        "num_experts_per_tok": 2,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [0],
        "moe_intermediate_size": size.feed_forward // 2,
        "norm_topk_prob": True,
    }


def _deepseek_v3(size: Size) -> Config:
    return {
        "num_key_value_heads": size.heads,
        "moe_intermediate_size": size.feed_forward // 2,
        "n_routed_experts": size.experts,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "n_group": 1,
        "topk_group": 1,
        "first_k_dense_replace": 1,
        "kv_lora_rank": 32,
        "q_lora_rank": 32,
        "qk_rope_head_dim": 16,
        "qk_nope_head_dim": size.head_dim,
        "v_head_dim": size.head_dim,
    }


def _gpt_oss(size: Size) -> Config:
    return {
        "num_local_experts": size.experts,
        "num_experts_per_tok": 2,
        "sliding_window": 16,
        "layer_types": _alternating(size.layers),
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    }


def _gemma3(size: Size) -> Config:
    return {
        "query_pre_attn_scalar": size.head_dim,
        "rope_local_base_freq": 10000.0,
        "sliding_window": 16,
        "sliding_window_pattern": 2,
        "layer_types": _alternating(size.layers),
    }


def _qwen3_next(size: Size) -> Config:
    return {
        **_qwen3_moe(size),
        "mlp_only_layers": [],
        "shared_expert_intermediate_size": size.feed_forward // 2,
        "linear_num_value_heads": size.heads,
        "linear_num_key_heads": size.kv_heads,
        "linear_key_head_dim": size.head_dim,
        "linear_value_head_dim": size.head_dim,
        "linear_conv_kernel_dim": 4,
        "partial_rotary_factor": 0.5,
        "full_attention_interval": 2,
    }


def _gemma4(size: Size) -> Config:
    return {
        "global_head_dim": size.head_dim,
        "hidden_size_per_layer_input": 0,
        "num_kv_shared_layers": size.layers // 2,
        "sliding_window": 16,
        "layer_types": _alternating(size.layers),
        "use_double_wide_mlp": False,
    }


def _qwen3_5(size: Size) -> Config:
    rope = {
        "type": "default",
        "mrope_section": [4, 2, 2],
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.5,
    }
    return {
        "text_config": {
            **_common(size),
            **_qwen3_next(size),
            "model_type": "qwen3_5_text",
            "num_experts": 0,
            "rope_parameters": rope,
        }
    }


def _alternating(layers: int) -> list[str]:
    return ["full_attention" if layer % 2 else "sliding_attention" for layer in range(layers)]


def _plain(size: Size) -> Config:
    return {}


ARCHITECTURES: dict[str, tuple[str, Callable[[Size], Config]]] = {
    "llama": ("llama", _plain),
    "qwen2": ("qwen2", _plain),
    "qwen3": ("qwen3", _plain),
    "qwen3_moe": ("qwen3_moe", _qwen3_moe),
    "qwen3_next": ("qwen3_next", _qwen3_next),
    "deepseek_v3": ("deepseek_v3", _deepseek_v3),
    "gpt_oss": ("gpt_oss", _gpt_oss),
    "gemma3": ("gemma3_text", _gemma3),
    "gemma4": ("gemma4_text", _gemma4),
    "qwen3_5": ("qwen3_5", _qwen3_5),
}
"""What can be made: mlx-lm's name for it (`model_type`), and what its config says beyond the common part."""


def make_model(
    architecture: str,
    folder: Path,
    *,
    seed: int = 0,
    layers: int = 4,
    hidden: int = 64,
    heads: int = 4,
    kv_heads: int = 2,
    intermediate: int | None = None,
    experts: int = 4,
    context: int = 2048,
) -> Path:
    """Write a float32 model of one of ARCHITECTURES that mlx-lm loads, with the guide's tokenizer.

    Returns the folder. The same arguments give the same weights. Raises ValueError for an unknown
    architecture, or for heads that do not divide.
    """
    size = Size(
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        intermediate=intermediate,
        experts=experts,
        context=context,
    )
    _check(architecture, size)
    tokenizer = _write_tokenizer(folder, context)
    config = _config(architecture, size, tokenizer)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_weights(random_weights(build(config), seed), folder)
    return folder


def _check(architecture: str, size: Size) -> None:
    if architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {architecture!r}; there are {', '.join(ARCHITECTURES)}")
    if size.hidden % size.heads or size.heads % size.kv_heads:
        raise ValueError("hidden must be a multiple of heads, and heads of kv_heads")
    if size.head_dim % 2:
        raise ValueError("hidden / heads must be even: rotary positions turn pairs")


def _config(architecture: str, size: Size, tokenizer: Tokenizer) -> Config:
    model_type, beyond = ARCHITECTURES[architecture]
    config: Config = {
        "model_type": model_type,
        "vocab_size": tokenizer.get_vocab_size(),
        "eos_token_id": tokenizer.token_to_id(END),
        "pad_token_id": tokenizer.token_to_id(PAD),
        "torch_dtype": "float32",
        **_common(size),
        **beyond(size),
    }
    if isinstance(text := config.get("text_config"), dict):
        text["vocab_size"] = config["vocab_size"]
    return config


def _write_tokenizer(folder: Path, context: int) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(ROOT / "models" / "guide" / "tokenizer.json"))
    save_tokenizer(tokenizer, folder, context)
    return tokenizer


def random_weights(network: Network, seed: int) -> dict[str, mx.array]:
    """Every parameter drawn anew, biases and norms too, so that mixed up parts show in the tokens."""
    key = mx.random.key(seed)
    weights: dict[str, mx.array] = {}
    for name, old in sorted(named_weights(network).items()):
        key, draw = mx.random.split(key)
        weights[name] = _draw(name, old, draw)
    return weights


def _draw(name: str, old: mx.array, key: mx.array) -> mx.array:
    noise: mx.array = mx.random.normal(old.shape, key=key)
    if "norm" in name:
        return noise * 0.1 + 1.0
    if old.ndim < 2:
        return noise * 0.1
    # Larger than a trained model's: the layers, not the last token's embedding, then decide what comes next.
    return noise * (1.5 / math.sqrt(old.shape[-1]))


def quantise(folder: Path, bits: int) -> Path:
    """Have a model that was made keep this many bits of each weight of its matrices; returns its folder.

    A matrix stays as it is where its rows are no multiple of GROUP_SIZE long.
    """
    network, config = load_model(folder)
    with redirect_stdout(sys.stderr):  # it says how many bits there are now
        network, config = quantize_model(network, config, GROUP_SIZE, bits)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_weights(named_weights(network), folder)
    return folder


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m scripts.make_model", description=__doc__)
    parser.add_argument("architecture", choices=sorted(ARCHITECTURES))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bits", type=int, choices=(4, 8), help="quantise it to this many per weight")
    for field in dataclasses.fields(Size):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=int, default=field.default)
    chosen = vars(parser.parse_args(arguments))
    bits = chosen.pop("bits")
    folder = make_model(chosen.pop("architecture"), chosen.pop("folder"), **chosen)
    if bits is not None:
        quantise(folder, bits)
    megabytes = (folder / "model.safetensors").stat().st_size / 1e6
    print(f"{folder}: {megabytes:.1f} MB")


if __name__ == "__main__":
    main()
