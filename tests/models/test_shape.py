"""A model's bytes, layer by layer, from the headers of its files."""

import json
from pathlib import Path

import mlx.core as mx
import pytest

from models.card import Json, card_from, read_card
from models.shape import Tensor, read_header, read_shape, shape_of
from models.store import built_in_folder
from scripts.make_model import ARCHITECTURES, make_model

CONFIG: dict[str, Json] = {
    "model_type": "x",
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 64,
}
CARD = card_from(CONFIG)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_byte_of_a_made_model_is_in_its_layers_or_beside_them(
    architecture: str, tmp_path: Path
) -> None:
    folder = make_model(architecture, tmp_path / "m")
    card = read_card(folder)
    shape = read_shape(folder, card)
    weights = mx.load(str(folder / "model.safetensors"))
    assert isinstance(weights, dict)
    sizes = {name: weight.nbytes for name, weight in weights.items()}
    assert sum(shape.layer_bytes) + shape.other_bytes == sum(sizes.values())
    for layer, size in enumerate(shape.layer_bytes):
        assert size == sum(sizes[name] for name in sizes if f".layers.{layer}." in name) > 0
    assert len(shape.kv_bytes_per_token) == len(shape.layer_bytes) == card.layers
    assert (shape.heads, shape.kv_heads) == (4, card.kv_heads)
    assert not shape.examined


def test_the_built_in_model_has_a_shape() -> None:
    folder = built_in_folder()
    assert min(read_shape(folder, read_card(folder)).layer_bytes) > 0


def test_layers_beyond_those_that_are_counted_are_not_loaded() -> None:
    shape = shape_of(CARD, [Tensor(f"model.layers.{layer}.w", 10) for layer in range(3)])
    assert (shape.layer_bytes, shape.other_bytes) == ((10, 10), 0)


def test_of_several_stacks_the_largest_counts() -> None:
    tensors = [
        Tensor("vision.encoder.layers.0.w", 5),
        Tensor("language_model.model.layers.0.w", 10),
        Tensor("language_model.model.layers.1.w", 20),
        Tensor("language_model.model.embed_tokens.weight", 7),
    ]
    shape = shape_of(CARD, tensors)
    assert (shape.layer_bytes, shape.other_bytes) == ((10, 20), 12)


def test_of_a_mixture_only_the_chosen_experts_are_read() -> None:
    card = card_from({**CONFIG, "num_experts": 8, "num_experts_per_tok": 2})
    tensors = [
        Tensor("model.layers.0.mlp.switch_mlp.up_proj.weight", 800),
        Tensor("model.layers.0.mlp.shared_experts.up_proj.weight", 50),
        Tensor("model.layers.1.mlp.up_proj.weight", 100),
    ]
    shape = shape_of(card, tensors)
    assert (shape.layer_bytes, shape.active_bytes) == ((850, 100), (250, 100))
    assert shape_of(CARD, tensors).active_bytes == ()


def test_layers_under_unknown_names_are_taken_to_be_alike() -> None:
    shape = shape_of(CARD, [Tensor("a.w", 11), Tensor("b.w", 10)])
    assert (shape.layer_bytes, shape.other_bytes) == ((10, 10), 1)


def header(path: Path, entries: Json, data: bytes = b"") -> Path:
    text = json.dumps(entries).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_a_header_lists_tensors_and_their_bytes(tmp_path: Path) -> None:
    entries: Json = {
        "__metadata__": {"format": "mlx"},
        "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "b": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [8, 12]},
    }
    assert read_header(header(tmp_path / "x.safetensors", entries, b"\0" * 12)) == [
        Tensor("a", 8),
        Tensor("b", 8),
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "damaged"),
        (b"\xff" * 4096, "damaged"),
        (b"\x02\0\0\0\0\0\0\0[]", "no object"),
        (b'\x07\0\0\0\0\0\0\0{"a": 1', "damaged"),
        (b'\x08\0\0\0\0\0\0\0{"a": 1}', "a has no place in it"),
    ],
)
def test_a_damaged_file_is_named(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=reason) as caught:
        read_header(tmp_path / "x.safetensors")
    assert "x.safetensors" in str(caught.value)
    assert "copy it again" in str(caught.value)


def test_a_file_that_is_cut_short_is_named(tmp_path: Path) -> None:
    entries: Json = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    with pytest.raises(ValueError, match="cut short"):
        read_header(header(tmp_path / "x.safetensors", entries, b"\0" * 7))
