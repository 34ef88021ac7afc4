"""The folders that hold models: a non-empty folder with no `.partial` file in it is a model.

Below a models directory a model lies in `NAME` or in `ORGANISATION/NAME`, copied there by hand or
downloaded; a Hugging Face cache (`models--ORG--NAME/snapshots/…`) can be given as well. A directory may
be read-only. When two directories hold the same name, the one given first counts.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bus.messages.base import ModelId
from bus.messages.facts import Shape
from models.card import ModelCard, read_card
from models.pooling import made_for_embeddings
from models.shape import read_shape

BUILT_IN = ModelId("guide")
"""The model that comes with the project."""

_HUB_PREFIX = "models--"


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model's folder and what is in it."""

    id: ModelId
    folder: Path
    size_bytes: int
    created_at: float
    """Seconds since 1970."""
    read_only: bool
    tools: bool
    """Its chat template takes tools."""
    embeds: bool
    """It was made for embeddings."""
    card: ModelCard | None
    problem: str = ""
    """Why it can't be used, and what to do; empty when it can."""
    shape: Shape | None = None
    """How large its parts are; None when it can't be used."""
    mark: str = ""
    """Changes when a file's name, size or time of change does."""

    @property
    def built_in(self) -> bool:
        """It came with the project."""
        return self.folder == built_in_folder()


def built_in_folder() -> Path:
    """Where the built-in model lies."""
    return Path(__file__).parent / BUILT_IN


def scan(
    directories: Iterable[Path], known: Mapping[ModelId, StoredModel] | None = None
) -> tuple[StoredModel, ...]:
    """All models of the built-in kind and in `directories`, by name, each name once.

    Files of models in `known` are not opened again unless their marks have changed.
    """
    known = known or {}
    built_in = read_folder(BUILT_IN, built_in_folder(), known.get(BUILT_IN))
    found: dict[ModelId, StoredModel] = {BUILT_IN: built_in}
    for directory in directories:
        for name, folder in _model_folders(directory):
            if name not in found:
                found[name] = read_folder(name, folder, known.get(name))
    return tuple(sorted(found.values(), key=lambda model: model.id))


def read_folder(name: ModelId, folder: Path, known: StoredModel | None = None) -> StoredModel:
    """What is in a model's folder; what is wrong with it becomes its `problem`."""
    try:
        files = {path: path.stat() for path in sorted(folder.rglob("*")) if path.is_file()}
        created = folder.stat().st_mtime
    except OSError as error:
        return StoredModel(name, folder, 0, 0.0, True, False, False, None, f"can't be read: {error.strerror}")
    mark = _mark(folder, files)
    if known is not None and not known.problem and (known.folder, known.mark) == (folder, mark):
        return known
    card, shape, problem = None, None, ""
    try:
        _check(list(files))
        card = read_card(folder)
        shape = read_shape(folder, card)
    except ValueError as error:
        problem = str(error)
    size = sum(stat.st_size for stat in files.values())
    read_only, tools = not os.access(folder, os.W_OK), _takes_tools(folder)
    embeds = made_for_embeddings(folder)
    return StoredModel(name, folder, size, created, read_only, tools, embeds, card, problem, shape, mark)


def _mark(folder: Path, files: Mapping[Path, os.stat_result]) -> str:
    seen = [(str(path.relative_to(folder)), stat.st_size, stat.st_mtime_ns) for path, stat in files.items()]
    return hashlib.blake2b(repr(seen).encode(), digest_size=8).hexdigest()


def _check(files: list[Path]) -> None:
    """ValueError when these files can't be a whole model."""
    partial = next((path for path in files if path.name.endswith(".partial")), None)
    if partial is not None:
        raise ValueError(f"is not complete: {partial.name} is still being written")
    if not any(path.suffix == ".safetensors" for path in files):
        raise ValueError("has no .safetensors file: copy the model's whole folder")


def _takes_tools(folder: Path) -> bool:
    """Whether the chat template looks at `tools`."""
    for name in ("chat_template.jinja", "tokenizer_config.json"):
        try:
            if "tools" in (folder / name).read_text(encoding="utf-8"):
                return True
        except (OSError, UnicodeDecodeError):
            continue
    return False


def _model_folders(directory: Path) -> Iterator[tuple[ModelId, Path]]:
    """Names and folders below a models directory; one that is missing or unreadable holds none."""
    for folder in _folders(directory):
        if folder.name.startswith(_HUB_PREFIX):
            snapshot = _hub_snapshot(folder)
            if snapshot is not None:
                yield ModelId(folder.name.removeprefix(_HUB_PREFIX).replace("--", "/")), snapshot
        elif _holds_files(folder):
            yield ModelId(folder.name), folder
        else:
            for inner in _folders(folder):
                if _holds_files(inner):
                    yield ModelId(f"{folder.name}/{inner.name}"), inner


def _folders(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:
        return []


def _holds_files(folder: Path) -> bool:
    try:
        return any(path.is_file() and not path.name.startswith(".") for path in folder.iterdir())
    except OSError:
        return False


def _hub_snapshot(folder: Path) -> Path | None:
    """The snapshot that a Hugging Face cache folder calls `main`, or else its newest."""
    snapshots = {path.name: path for path in _folders(folder / "snapshots")}
    try:
        main = (folder / "refs" / "main").read_text(encoding="utf-8").strip()
    except OSError:
        main = ""
    newest = max(snapshots.values(), key=lambda path: path.stat().st_mtime, default=None)
    return snapshots.get(main, newest)
