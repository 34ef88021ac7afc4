"""A non-empty folder with no .partial file in it is a model, wherever it came from."""

import json
import os
from pathlib import Path

from bus.messages.base import ModelId
from models.card import Json, card_from, read_card
from models.store import BUILT_IN, StoredModel, scan

CONFIG: dict[str, Json] = {
    "model_type": "llama",
    "max_position_embeddings": 4096,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "hidden_size": 256,
    "torch_dtype": "float32",
    "vocab_size": 1000,
}


def make_folder(folder: Path, *, config: Json = CONFIG) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}" + b"\0" * 1000)
    return folder


def stored(directory: Path, *others: Path) -> dict[str, StoredModel]:
    return {model.id: model for model in scan([directory, *others])}


def names(*directories: Path) -> list[str]:
    return [model.id for model in scan(directories) if model.id != BUILT_IN]


def test_the_built_in_model_is_always_there() -> None:
    (guide,) = scan([])
    assert guide.id == BUILT_IN
    assert guide.built_in


def test_a_folder_copied_by_hand_is_a_model_with_or_without_an_organisation(tmp_path: Path) -> None:
    make_folder(tmp_path / "tiny")
    make_folder(tmp_path / "mlx-community" / "Llama-3.2-1B")
    assert names(tmp_path) == ["mlx-community/Llama-3.2-1B", "tiny"]


def test_an_empty_folder_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert names(tmp_path) == []


def test_a_partial_file_says_that_the_copy_is_not_complete(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "tiny")
    (folder / "model.safetensors.partial").touch()
    assert "not complete" in stored(tmp_path)["tiny"].problem
    (folder / "model.safetensors.partial").unlink()
    assert stored(tmp_path)["tiny"].problem == ""


def test_the_first_directory_wins_and_a_missing_one_holds_nothing(tmp_path: Path) -> None:
    first, second = make_folder(tmp_path / "one" / "tiny"), make_folder(tmp_path / "two" / "tiny")
    found = stored(tmp_path / "none", first.parent, second.parent)
    assert found["tiny"].folder == first


def test_a_hugging_face_cache_is_read_as_it_lies(tmp_path: Path) -> None:
    cached = tmp_path / "models--org--name"
    make_folder(cached / "snapshots" / "0ld")
    make_folder(cached / "snapshots" / "cafe")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("cafe")
    found = stored(tmp_path)
    assert found["org/name"].folder == cached / "snapshots" / "cafe"


def test_a_broken_folder_is_listed_with_what_is_wrong(tmp_path: Path) -> None:
    (make_folder(tmp_path / "bad") / "config.json").write_text("{")
    (make_folder(tmp_path / "bare") / "model.safetensors").unlink()
    found = stored(tmp_path)
    assert "can't be read" in found["bad"].problem
    assert "no .safetensors" in found["bare"].problem


def test_a_card_reckons_the_cache_of_a_token(tmp_path: Path) -> None:
    card = read_card(make_folder(tmp_path / "tiny"))
    assert card.kv_bytes_per_token == (2 * 2 * 32 * 4,) * 4
    assert (card.architecture, card.context, card.quantization) == ("llama", 4096, "")
    assert card.vocabulary == 1000


def test_the_text_part_of_a_multimodal_configuration_counts() -> None:
    card = card_from({"model_type": "gemma3", "text_config": {**CONFIG, "head_dim": 256}})
    assert (card.architecture, card.layers, card.kv_bytes_per_token[0]) == ("gemma3", 4, 2 * 2 * 256 * 4)


def test_quantisation_is_named() -> None:
    assert card_from({**CONFIG, "quantization": {"bits": 4, "group_size": 64}}).quantization == "4-bit"


def test_latent_attention_keeps_one_small_cache_for_all_heads() -> None:
    latent: dict[str, Json] = {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "torch_dtype": "bfloat16"}
    card = card_from({**CONFIG, **latent, "model_type": "deepseek_v3"})
    assert (card.kv_bytes_per_token[0], card.kv_divides) == ((512 + 64) * 2, False)


def test_latent_attention_that_is_cached_expanded_counts_so() -> None:
    parts: dict[str, Json] = {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128}
    card = card_from({**CONFIG, **parts, "v_head_dim": 128, "model_type": "deepseek_v2"})
    assert (card.kv_bytes_per_token[0], card.kv_divides) == (8 * (128 + 64 + 128) * 4, True)


def test_layers_whose_state_does_not_grow_keep_nothing_of_a_token() -> None:
    kinds: list[Json] = ["linear_attention", "linear_attention", "sliding_attention", "full_attention"]
    by_kind = card_from({**CONFIG, "layer_types": kinds})
    assert [size > 0 for size in by_kind.kv_bytes_per_token] == [False, False, True, True]
    by_interval = card_from({**CONFIG, "full_attention_interval": 2})
    assert [size > 0 for size in by_interval.kv_bytes_per_token] == [False, True, False, True]


def test_a_folder_is_marked_anew_when_a_file_changes(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "tiny")
    first = stored(tmp_path)["tiny"]
    assert stored(tmp_path)["tiny"] == first
    os.utime(folder / "config.json", (1.0, 1.0))
    assert stored(tmp_path)["tiny"].mark != first.mark


def test_a_model_that_has_not_changed_is_not_read_again(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "tiny")
    known = {model.id: model for model in scan([tmp_path])}
    found = {model.id: model for model in scan([tmp_path], known)}
    assert all(found[name] is known[name] for name in known)
    (folder / "extra.txt").touch()
    again = {model.id: model for model in scan([tmp_path], known)}
    assert again[ModelId("tiny")] is not known[ModelId("tiny")]
