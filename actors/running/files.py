"""Finds what an engine loads: its model's folder and, on rank 0's node, that of its draft model."""

import logging
from dataclasses import dataclass
from urllib.parse import quote

from actors.downloader import StoreSilent, find_folder
from actors.kernel.directory import Directory
from bus.messages.base import ModelId
from bus.messages.placement import Instance

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Files:
    """Folders on this node."""

    model: str
    draft: str = ""
    """Empty: there is none, or none is wanted."""
    without: str = ""
    """What is missing that an engine can do without, for a person to read."""


def safe_name(model: ModelId) -> str:
    """A model's name as that of one folder, a different one for each.

    >>> safe_name(ModelId("org/name-4bit"))
    'org%2Fname-4bit'
    """
    return quote(model, safe="")


def kept_name(instance: Instance) -> str:
    """The folder of what an instance keeps of prompts across restarts. Each instance of a model has its own,
    or one would remove what another has saved; and one that comes after it finds it."""
    name = safe_name(instance.model)
    return f"{name}@{instance.ordinal}" if instance.ordinal else name  # no safe name has an @ in it


async def find_files(directory: Directory, instance: Instance, *, guesses: bool) -> Files | None:
    """Where the files of this node's rank lie now; None: there is no whole copy of the model.

    `guesses`: this rank is the one that a draft model would guess for, and may. A missing draft model only
    costs speed. Raises StoreSilent.
    """
    model = await find_folder(directory, instance.model)
    if model is None or instance.draft is None or not guesses or not instance.speculate:
        return Files(model) if model is not None else None
    try:
        draft = await find_folder(directory, instance.draft)
        lacking = "there is no whole copy of it here"
    except StoreSilent as silent:
        draft, lacking = None, str(silent)
    if draft is not None:
        return Files(model, draft)
    without = f"without its draft model {instance.draft}: {lacking}"
    logger.warning("%s runs %s", instance.model, without)
    return Files(model, without=without)
