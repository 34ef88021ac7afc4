"""The register on disk: read at the start, written whole at each change, so a restart brings all back."""

import logging
import os
import tempfile
import time
from pathlib import Path

import msgspec

from actors.coordination.register import Register
from bus.messages.facts import DeclaredFact
from bus.messages.placement import Term

logger = logging.getLogger(__name__)

FILE = "instances.json"


class _Page(msgspec.Struct, frozen=True):
    """What the file holds."""

    highest: Term
    declared: tuple[DeclaredFact, ...]


def read(data_dir: Path) -> Register:
    """What was declared when this node last ran; nothing, if there is no file.

    A file that can't be read is set aside with a warning, and nothing is declared: other nodes still know.
    """
    path = data_dir / FILE
    try:
        page = msgspec.json.decode(path.read_bytes(), type=_Page)
    except FileNotFoundError:
        return Register()
    except (OSError, ValueError, RecursionError) as error:
        _set_aside(path, error)
        return Register()
    return Register(page.declared, page.highest)


def write(data_dir: Path, register: Register) -> bool:
    """Replace the file, whole or not at all; only its owner can read it.

    False: it could not be written, which is logged. The cluster goes on; a full restart may bring back less.
    """
    path = data_dir / FILE
    page = _Page(highest=register.highest, declared=tuple(register.declared.values()))
    data = msgspec.json.format(msgspec.json.encode(page), indent=1)
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        _replace(path, data)
    except OSError as error:
        logger.error(
            "%s can't be written (%s): after a restart of all nodes its instances may not come back;"
            " make room on that disk, and see to it that this user may write there",
            path,
            error.strerror or error,
        )
        return False
    return True


def _replace(path: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # made with mode 0600
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """The new name, too, has to outlast a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _set_aside(path: Path, error: Exception) -> None:
    aside = path.with_name(f"{path.name}.unreadable-{int(time.time())}")
    try:
        path.rename(aside)
        what = f"it is kept as {aside.name}"
    except OSError as failure:
        what = f"and can't be set aside either ({failure.strerror})"
    logger.warning("%s can't be read (%s); %s; this node starts with nothing declared", path, error, what)
