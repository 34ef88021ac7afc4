"""What an engine loads is found in the store; a draft model that is missing only costs speed."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from actors import names
from actors.downloader import StoreSilent
from actors.kernel.actor import LoopActor
from actors.kernel.directory import Directory
from actors.messages import DownloaderMessage, FindModel
from actors.running.files import Files, find_files, kept_name
from bus.messages.base import InstanceId, ModelId
from bus.messages.placement import Instance
from engine.prefixes import disk
from models.store import BUILT_IN, StoredModel, built_in_folder, read_folder
from scripts.make_model import make_model
from tests.actors.probe import soon
from tests.engine.prefixes import KeepingModel

FOLDER = str(built_in_folder())
ALONE = Instance(InstanceId("i"), 1, BUILT_IN, stages=(), context=512)
GUESSED_FOR = replace(ALONE, draft=BUILT_IN)
GUESSED_FOR_BY_NOBODY = replace(ALONE, draft=ModelId("nobody/has-it"))


class Shelf(LoopActor[DownloaderMessage]):
    """A store that holds the built-in model."""

    async def on_receive(self, message: DownloaderMessage) -> StoredModel | None:
        wanted = isinstance(message, FindModel) and message.model == BUILT_IN
        return read_folder(BUILT_IN, built_in_folder()) if wanted else None


@pytest.fixture
async def directory(bound_loop: asyncio.AbstractEventLoop) -> AsyncIterator[Directory]:
    known, shelf = Directory(), Shelf.start()
    known.register(names.DOWNLOADER, shelf)
    yield known
    shelf.stop(block=False)
    await soon(shelf.ended)


async def test_a_model_and_its_draft_are_found(directory: Directory) -> None:
    assert await find_files(directory, ALONE, guesses=True) == Files(FOLDER)
    assert await find_files(directory, GUESSED_FOR, guesses=True) == Files(FOLDER, draft=FOLDER)


async def test_only_rank_0_guesses_and_only_where_that_is_wanted(directory: Directory) -> None:
    assert await find_files(directory, GUESSED_FOR, guesses=False) == Files(FOLDER)
    unwanted = replace(GUESSED_FOR, speculate=False)
    assert await find_files(directory, unwanted, guesses=True) == Files(FOLDER)


async def test_a_missing_draft_is_done_without_and_that_is_said(directory: Directory) -> None:
    found = await find_files(directory, GUESSED_FOR_BY_NOBODY, guesses=True)
    words = "without its draft model nobody/has-it: there is no whole copy of it here"
    assert found == Files(FOLDER, without=words)


async def test_a_missing_model_is_not(directory: Directory) -> None:
    assert await find_files(directory, replace(ALONE, model=ModelId("nobody/has-it")), guesses=True) is None
    with pytest.raises(StoreSilent):
        await find_files(Directory(), ALONE, guesses=True)


def test_each_instance_of_a_model_has_a_folder_of_its_own_and_finds_it_again() -> None:
    models = [ModelId(name) for name in ("org/name", "org/name@1", "org/name%401")]
    there = [Instance(InstanceId("i"), 1, model, (), 512, ordinal=n) for model in models for n in range(3)]
    names_of = [kept_name(each) for each in there]
    assert len(set(names_of)) == len(there)
    assert all(Path(name).name == name for name in names_of)
    assert names_of[0] == "org%2Fname", "as it was when a model had one folder"
    again = [replace(each, id=InstanceId("j"), epoch=7) for each in there]
    assert [kept_name(each) for each in again] == names_of


def test_two_instances_of_a_model_on_one_node_each_find_what_they_kept(tmp_path: Path) -> None:
    first, second = (replace(ALONE, id=InstanceId(name), ordinal=n) for n, name in enumerate("ab"))
    folder = make_model("llama", tmp_path / "model", layers=2)
    mark = disk.fingerprint(folder, (0, 2), (0, 1), None)
    shelves = {each.id: disk.Shelf(tmp_path / kept_name(each), mark, 1 << 30) for each in (first, second)}
    sizes = []
    for (name, shelf), length in zip(shelves.items(), (40, 60), strict=True):
        model = KeepingModel(folder)
        model.answer(list(range(length)), 2)
        assert shelf.save(model.segments, f"by-{name}")
        sizes.append(model.segments.nbytes)
    for (name, shelf), size in zip(shelves.items(), sizes, strict=True):
        segments = KeepingModel(folder).segments
        assert shelf.kept == f"by-{name}"
        assert shelf.restore(segments, shelf.kept) is not None
        assert segments.nbytes == size
