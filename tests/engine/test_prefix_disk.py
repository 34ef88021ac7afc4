"""Kept prefixes survive a restart, and nothing that is wrong with them on disk does any harm."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import msgspec
import pytest

from engine.memory.quantised import quantise
from engine.prefixes.disk import Shelf, fingerprint
from engine.prefixes.index import Index
from engine.prefixes.segments import Segments
from scripts.make_model import make_model
from tests.engine.conftest import Models
from tests.engine.prefixes import KeepingModel
from tests.engine.reference import greedy

PRINT = "0123456789abcdef" * 2
OTHER_PRINT = "f" * 32
PLENTY = 1 << 30
PROMPT = list(range(30, 90))


def shelf(root: Path, mark: str = PRINT, limit_bytes: int = PLENTY) -> Shelf:
    return Shelf(root, mark, limit_bytes)


@pytest.fixture(scope="module")
def model(models: Models) -> KeepingModel:
    """A small llama that has kept a conversation."""
    model = KeepingModel(models("llama"))
    model.answer(PROMPT, 4, marks=[20])
    return model


def folders(root: Path) -> list[str]:
    return sorted(folder.name for folder in root.iterdir())


@pytest.mark.parametrize("architecture", ["llama", "gpt_oss", "qwen3_next"])
def test_an_engine_goes_on_with_what_the_one_before_it_has_saved(
    models: Models, tmp_path: Path, architecture: str
) -> None:
    before = KeepingModel(models(architecture))
    answer, _ = before.answer(PROMPT, 4, marks=[20])
    assert shelf(tmp_path).save(before.segments, "evening", before.index.record())

    after = KeepingModel(models(architecture))
    assert shelf(tmp_path).kept == "evening"
    record = shelf(tmp_path).restore(after.segments, "evening")
    assert record == before.index.record()
    after.index = Index.from_record(record, after.index.sliceable, 1, 1)
    assert after.segments.nbytes == before.segments.nbytes
    prompt = [*PROMPT, *answer, 7, 8, 9]
    assert after.answer(prompt, 8) == (greedy(after.network, prompt, 8), len(PROMPT) + 3)


def test_quantised_caches_are_saved_with_what_they_were_made_with(tmp_path: Path) -> None:
    folder = make_model("llama", tmp_path / "wide", layers=2, hidden=128)
    before, after = (KeepingModel(folder, lambda caches: quantise(caches, 8)) for _ in range(2))
    before.answer(PROMPT, 4)
    assert shelf(tmp_path / "kept").save(before.segments, "evening")
    assert shelf(tmp_path / "kept").restore(after.segments, "evening") == b""
    after.index = before.index
    assert after.answer([*PROMPT, 3], 6) == before.answer([*PROMPT, 3], 6)


def test_nothing_kept_can_be_saved_as_well(model: KeepingModel, tmp_path: Path) -> None:
    empty = Segments(model.fresh)
    assert shelf(tmp_path).save(empty, "nothing")
    assert shelf(tmp_path).restore(empty, "nothing") == b""
    assert len(empty) == 0


def test_what_is_saved_takes_the_place_of_what_was(model: KeepingModel, tmp_path: Path) -> None:
    assert shelf(tmp_path).kept == ""
    for name in ("one", "two", "two"):
        assert shelf(tmp_path).save(model.segments, name)
        assert shelf(tmp_path).kept == name
        assert folders(tmp_path) == [f"{PRINT}.{name}"]


def test_only_its_owner_can_read_what_is_saved(model: KeepingModel, tmp_path: Path) -> None:
    assert shelf(tmp_path).save(model.segments, "mine")
    assert (tmp_path / f"{PRINT}.mine").stat().st_mode & 0o777 == 0o700


# -- what can be wrong with it -------------------------------------------------------------------


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def garble(path: Path) -> None:
    """The size stays: what says where arrays are no longer does."""
    data = path.read_bytes()
    path.write_bytes(b"\xff" * 64 + data[64:])


BREAKS: dict[str, tuple[Callable[[Path], None], bool]] = {
    "the arrays are truncated": (lambda folder: truncate(folder / "arrays.safetensors"), True),
    "the manifest is truncated": (lambda folder: truncate(folder / "manifest"), True),
    "the manifest is empty": (lambda folder: os.truncate(folder / "manifest", 0), True),
    "the arrays are missing": (lambda folder: (folder / "arrays.safetensors").unlink(), True),
    "the manifest is missing": (lambda folder: (folder / "manifest").unlink(), True),
    "the arrays are garbled": (lambda folder: garble(folder / "arrays.safetensors"), False),
}
"""And whether a look that reads no arrays shows it."""


@pytest.mark.parametrize("wrong", BREAKS)
def test_a_share_with_anything_wrong_is_removed_and_nothing_is_kept(
    model: KeepingModel, tmp_path: Path, caplog: pytest.LogCaptureFixture, wrong: str
) -> None:
    wreck, shows = BREAKS[wrong]
    for look_first in (True, False):
        segments = Segments(model.fresh)
        assert shelf(tmp_path).save(model.segments, "evening")
        wreck(tmp_path / f"{PRINT}.evening")
        caplog.clear()
        if look_first and shows:
            assert shelf(tmp_path).kept == ""
        else:
            assert shelf(tmp_path).restore(segments, "evening") is None
        assert folders(tmp_path) == []
        assert (len(segments), segments.nbytes) == (0, 0)
        assert "starting without them" in caplog.text


def test_what_was_never_finished_is_not_found_and_goes_with_the_next_save(
    model: KeepingModel, tmp_path: Path
) -> None:
    shelf(tmp_path).save(model.segments, "evening")
    (tmp_path / f"{PRINT}.evening").rename(tmp_path / f"{PRINT}.evening.partial")
    assert shelf(tmp_path).kept == ""
    assert shelf(tmp_path).save(model.segments, "night")
    assert folders(tmp_path) == [f"{PRINT}.night"]


def test_arrays_of_other_layers_are_not_taken_up(model: KeepingModel, models: Models, tmp_path: Path) -> None:
    shelf(tmp_path).save(model.segments, "evening")
    other = KeepingModel(models("qwen3_next"))
    other.answer(PROMPT, 1)
    assert shelf(tmp_path).restore(other.segments, "evening") is None
    assert len(other.segments) == 0


def test_who_has_another_fingerprint_finds_nothing(model: KeepingModel, tmp_path: Path) -> None:
    shelf(tmp_path).save(model.segments, "evening")
    assert shelf(tmp_path, OTHER_PRINT).kept == ""
    assert shelf(tmp_path).kept == "evening"


@pytest.mark.parametrize("name", ["", "../evening", "a/b", "a.b", "a" * 65])
def test_a_name_leads_nowhere_else(model: KeepingModel, tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="can't be named"):
        shelf(tmp_path).save(model.segments, name)


# -- how much it may take ------------------------------------------------------------------------


def test_more_than_the_limit_is_not_saved(
    model: KeepingModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shelf(tmp_path).save(model.segments, "evening")
    assert not shelf(tmp_path, limit_bytes=model.segments.nbytes - 1).save(model.segments, "night")
    assert "are not saved" in caplog.text
    assert shelf(tmp_path).kept == "evening"


def test_the_oldest_shares_make_room_for_new_ones(model: KeepingModel, tmp_path: Path) -> None:
    limit = int(2.5 * model.segments.nbytes)
    for age, mark in enumerate((OTHER_PRINT, PRINT)):
        shelf(tmp_path, mark, limit).save(model.segments, "evening")
        os.utime(tmp_path / f"{mark}.evening", (age, age))
    third = "a" * 32
    assert shelf(tmp_path, third, limit).save(model.segments, "evening")
    assert folders(tmp_path) == [f"{PRINT}.evening", f"{third}.evening"]


def test_what_is_replaced_makes_room_before_what_another_engine_has_saved(
    model: KeepingModel, tmp_path: Path
) -> None:
    limit = int(2.5 * model.segments.nbytes)
    other = "e" * 32
    shelf(tmp_path, other, limit).save(model.segments, "evening")
    for name in ("evening", "night"):
        assert shelf(tmp_path, PRINT, limit).save(model.segments, name)
    assert folders(tmp_path) == sorted([f"{PRINT}.night", f"{other}.evening"])


def test_a_disk_that_can_not_be_written_is_no_failure(
    model: KeepingModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    assert not shelf(tmp_path / "file").save(model.segments, "evening")
    assert "can't be saved" in caplog.text


def test_arrays_that_fail_while_they_are_read_are_no_failure(
    model: KeepingModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The file got shorter after it was looked at: the manifest goes with it."""
    caplog.set_level(logging.WARNING)
    shelf(tmp_path).save(model.segments, "evening")
    path = tmp_path / f"{PRINT}.evening" / "arrays.safetensors"
    header = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    data = path.read_bytes()[:header]
    path.write_bytes(data + b"\0" * (model.segments.nbytes // 2))
    manifest = tmp_path / f"{PRINT}.evening" / "manifest"
    manifest.write_bytes(patched(manifest.read_bytes(), path.stat().st_size))
    segments = Segments(model.fresh)
    assert shelf(tmp_path).restore(segments, "evening") is None
    assert mx.array(1).item() == 1
    assert len(segments) == 0


def patched(manifest: bytes, arrays_bytes: int) -> bytes:
    fields: list[object] = msgspec.msgpack.decode(manifest, type=list[object])
    fields[1] = arrays_bytes
    return msgspec.msgpack.encode(fields)


# -- what kept arrays are good for ---------------------------------------------------------------


def test_the_fingerprint_changes_with_all_that_arrays_hang_on(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    weights = model / "model.safetensors"
    weights.write_bytes(b"12345")
    os.utime(weights, (1, 1))

    def now(
        layers: tuple[int, int] = (0, 4), tensor: tuple[int, int] = (0, 1), bits: int | None = None
    ) -> str:
        return fingerprint(model, layers, tensor, bits)

    seen = [now(), now((0, 2)), now(tensor=(0, 2)), now(tensor=(1, 2)), now(bits=8), now(bits=4)]
    assert now() == seen[0]
    os.utime(weights, (2, 2))
    seen.append(now())
    weights.write_bytes(b"123456")
    os.utime(weights, (2, 2))
    seen.append(now())
    (model / "config.json").write_text('{"model_type": "llama"}')
    seen.append(now())
    weights.rename(model / "model-00001.safetensors")
    seen.append(now())
    assert len(set(seen)) == len(seen)
    assert all(len(mark) == 32 for mark in seen)
