"""A folder that sentence-transformers wrote says how its model makes one vector of a text."""

import json
from pathlib import Path

import pytest

from bus.messages.base import ModelId
from models.card import Json
from models.pooling import Pooling, PoolingMode, made_for_embeddings, read_pooling
from models.store import read_folder
from tests.models.test_store import make_folder

MODES = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")


def write(
    folder: Path, *on: str, modules: tuple[str, ...] = ("Transformer", "Pooling"), **more: Json
) -> Path:
    where = {"Transformer": "", "Pooling": "1_Pooling"}
    listed: list[Json] = [
        {
            "idx": place,
            "name": str(place),
            "path": where.get(kind, f"{place}_{kind}"),
            "type": f"sentence_transformers.models.{kind}",
        }
        for place, kind in enumerate(modules)
    ]
    config: dict[str, Json] = {f"pooling_mode_{mode}": mode in on for mode in MODES}
    (folder / "1_Pooling").mkdir(parents=True)
    if modules:
        (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 384, **config, "include_prompt": True, **more})
    )
    return folder


@pytest.mark.parametrize(
    ("switch", "mode"),
    [
        ("cls_token", PoolingMode.CLS),
        ("mean_tokens", PoolingMode.MEAN),
        ("lasttoken", PoolingMode.LASTTOKEN),
    ],
)
def test_the_mode_that_is_switched_on_counts(tmp_path: Path, switch: str, mode: PoolingMode) -> None:
    assert read_pooling(write(tmp_path, switch)) == Pooling(mode, normalize=False, dimensions=384)


def test_a_vector_is_normalised_where_a_module_says_so(tmp_path: Path) -> None:
    pooling = read_pooling(write(tmp_path, "mean_tokens", modules=("Transformer", "Pooling", "Normalize")))
    assert pooling == Pooling(PoolingMode.MEAN, normalize=True, dimensions=384)


def test_a_mode_may_be_named_as_newer_versions_do(tmp_path: Path) -> None:
    pooling = read_pooling(write(tmp_path, pooling_mode="lasttoken"))
    assert pooling is not None
    assert pooling.mode is PoolingMode.LASTTOKEN


def test_the_pooling_alone_is_enough(tmp_path: Path) -> None:
    folder = write(tmp_path, "cls_token", modules=())
    assert read_pooling(folder) == Pooling(PoolingMode.CLS, normalize=False, dimensions=384)
    assert made_for_embeddings(folder)


@pytest.mark.parametrize("on", [("max_tokens",), ("cls_token", "mean_tokens"), ()])
def test_other_modes_and_several_at_once_are_not_known(tmp_path: Path, on: tuple[str, ...]) -> None:
    folder = write(tmp_path, *on)
    assert read_pooling(folder) is None
    assert made_for_embeddings(folder), "it is refused later, with a reason"


def test_layers_after_the_pooling_are_not_known(tmp_path: Path) -> None:
    assert read_pooling(write(tmp_path, "cls_token", modules=("Transformer", "Pooling", "Dense"))) is None


def test_damaged_files_say_nothing(tmp_path: Path) -> None:
    folder = write(tmp_path, "cls_token")
    (folder / "1_Pooling" / "config.json").write_text("[1")
    assert read_pooling(folder) is None


def test_a_list_of_modules_that_can_not_be_read_is_not_taken_for_one_that_is_not_there(
    tmp_path: Path,
) -> None:
    folder = write(tmp_path, "mean_tokens", modules=("Transformer", "Pooling", "Normalize"))
    (folder / "modules.json").write_text("[1")
    assert read_pooling(folder) is None, "whether its vectors are normalised is not known"


def test_the_store_knows_which_models_are_made_for_embeddings(tmp_path: Path) -> None:
    plain, embedder = make_folder(tmp_path / "plain"), make_folder(tmp_path / "embedder")
    write(embedder, "mean_tokens")
    assert not read_folder(ModelId("plain"), plain).embeds
    assert read_folder(ModelId("embedder"), embedder).embeds
