"""Models from folders, whole and broken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.loader import Loaded, LoadFailed, Speller, load
from engine.text.detokenizer import WindowDetokenizer
from tests.engine.conftest import Models


def quietly(doing: str, progress: float | None) -> None:
    """Nobody listens."""


@pytest.fixture
def folder(models: Models, tmp_path: Path) -> Path:
    """A model of one's own, to be broken."""
    return Path(shutil.copytree(models("llama"), tmp_path / "model"))


def test_loading_tells_how_far_it_is(models: Models) -> None:
    told: list[float | None] = []
    load(models("llama"), None, lambda doing, progress: told.append(progress))
    assert told[-1] == 1.0
    assert [each for each in told if each is not None] == sorted(each for each in told if each is not None)
    assert len(told) >= 4


@pytest.mark.parametrize(("wished", "context"), [(None, 2048), (512, 512), (10**6, 2048)])
def test_the_context_is_the_models_own_unless_less_is_wished(
    models: Models, wished: int | None, context: int
) -> None:
    assert load(models("llama"), wished, quietly).context == context


def test_a_model_that_does_not_say_its_context_gets_a_careful_one(folder: Path) -> None:
    edit(folder, lambda config: config.pop("max_position_embeddings"))
    assert load(folder, None, quietly).context == 4096


def edit(folder: Path, change: Callable[[dict[str, object]], object]) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def break_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def spoil_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 4096)


def take_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def take_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def take_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def be_unfinished(folder: Path) -> None:
    (folder / "model.safetensors.partial").touch()


def be_unknown(folder: Path) -> None:
    edit(folder, lambda config: config.update(model_type="from_the_future"))


def be_of_another_size(folder: Path) -> None:
    edit(folder, lambda config: config.update(num_hidden_layers=3))


def want_code_to_run(folder: Path) -> None:
    (folder / "model.py").write_text("raise SystemExit('it ran')")
    edit(folder, lambda config: config.update(model_file="model.py"))


def garble_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


@pytest.mark.parametrize(
    ("breakage", "reason"),
    [
        (break_weights, "can't be read"),
        (spoil_weights, "can't be read"),
        (take_weights, "has no model"),
        (take_config, r"has no config\.json"),
        (garble_config, r"config\.json"),
        (take_tokenizer, "Copy"),
        (be_unfinished, "not complete"),
        (be_unknown, "mlx-lm can't run.*from_the_future"),
        (be_of_another_size, "can't be read.*parameters"),
        (want_code_to_run, "wants to run code"),
    ],
)
def test_a_model_that_cannot_be_loaded_says_why_and_what_to_do(
    folder: Path, breakage: Callable[[Path], None], reason: str
) -> None:
    breakage(folder)
    with pytest.raises(LoadFailed, match=reason):
        load(folder, None, quietly)


def test_a_folder_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="is no folder"):
        load(tmp_path / "nowhere", None, quietly)


@pytest.mark.parametrize("text", ["Hello, world!\n", "Grüße aus 東京 👩‍💻", "  two  spaces", "<tool_call>{}"])
def test_tokens_become_the_text_that_they_came_from(loaded: Loaded, text: str) -> None:
    tokens = loaded.tokenizer.encode(text)
    detokenizer = loaded.speller.detokenizer(continues=True)
    assert "".join(map(detokenizer.add, tokens)) + detokenizer.finish() == text
    assert b"".join(map(loaded.speller.bytes_of, tokens)).decode() == text


def test_a_tokenizer_that_does_not_tell_its_spelling_is_asked_for_each_text(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.text.detokenizer import Spelling
    from engine.text.tokenizer import Tokenizer

    monkeypatch.setattr(Tokenizer, "spelling", lambda self: (Spelling.OPAQUE, False))
    speller = Speller(loaded.tokenizer)
    detokenizer = speller.detokenizer(continues=True)
    assert isinstance(detokenizer, WindowDetokenizer)
    tokens = loaded.tokenizer.encode("Grüße, 東京")
    assert "".join(map(detokenizer.add, tokens)) + detokenizer.finish() == "Grüße, 東京"
    assert speller.bytes_of(tokens[0]) == loaded.speller.bytes_of(tokens[0])
