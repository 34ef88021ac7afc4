"""What an engine loads is found in the store; a draft model that is missing only costs speed."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from actors import names
from actors.downloader import StoreSilent
from actors.kernel.actor import LoopActor
from actors.kernel.directory import Directory
from actors.messages import DownloaderMessage, FindModel
from actors.running.files import Files, find_files
from bus.messages.base import InstanceId, ModelId
from bus.messages.placement import Instance
from models.store import BUILT_IN, StoredModel, built_in_folder, read_folder
from tests.actors.probe import soon

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
