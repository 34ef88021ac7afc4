"""The cluster's key: given by a person, or made at a node's first start and kept from others."""

import base64
import os
import secrets
import stat
from pathlib import Path

from exo_actors.settings import UsageError
from host.files import write_once

KEY_FILE = "cluster.key"
KEY_BYTES = 32
GROUP = 4
"""Characters between two dashes: as much as one copies at a glance."""
SHORTEST = 16
"""Characters. A made-up key of fewer is found by trying."""
LONGEST = 1024


class KeyFileError(Exception):
    """The data directory's key can't be read or made, and what to do about it."""


def cluster_key(given: str | None, data_dir: Path) -> str:
    """The key that was given, as itself or as its file; else that of `data_dir`, made if there is none.

    Raises UsageError for what was given and is no key, and KeyFileError for what is wrong in `data_dir`.
    """
    if given is not None:
        try:
            return _given(given)
        except ValueError as error:
            raise UsageError(f"--cluster-key: {error}") from error
    path = data_dir / KEY_FILE
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            write_once(path, make_key())
        return read_key(path)
    except OSError as error:
        advice = f"make {data_dir} writable or give --data-dir or --cluster-key"
        raise KeyFileError(f"{path}: {error.strerror}; {advice}") from error
    except ValueError as error:
        raise KeyFileError(str(error)) from error


def make_key() -> str:
    """A fresh key: 32 random bytes in base32, in groups that people can copy."""
    letters = base64.b32encode(secrets.token_bytes(KEY_BYTES)).decode().rstrip("=").lower()
    return "-".join(letters[at : at + GROUP] for at in range(0, len(letters), GROUP))


def read_key(path: Path) -> str:
    """The key in a file. Raises ValueError for what is no key or is open to others, and OSError."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ValueError(f"{path} is open to other users of this machine (mode {mode:04o}): chmod 600 {path}")
    with path.open("rb") as file:
        content = file.read(LONGEST + 1)
    try:
        return _checked(content.decode("utf-8"))
    except ValueError as error:
        # A decoding error would quote what it could not decode.
        why = "it is not text" if isinstance(error, UnicodeDecodeError) else str(error)
        raise ValueError(f"{path} holds no cluster key: {why}") from None


def _given(text: str) -> str:
    path = Path(text).expanduser()
    if _is_file(path):
        try:
            return read_key(path)
        except OSError as error:
            raise ValueError(f"{path}: {error.strerror}") from error
    if text.startswith((".", "~")) or os.sep in text:
        raise ValueError(f"there is no file {path}")
    return _checked(text)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # what is too long for a file's name may be a key
        return False


def _checked(text: str) -> str:
    """The key without the space around it. Raises ValueError, with no part of the key in it."""
    key = text.strip()
    if len(key) < SHORTEST:
        raise ValueError(f"a key has at least {SHORTEST} characters, this one {len(key)}")
    if len(key) > LONGEST or not key.isprintable():
        raise ValueError(f"a key is one line of at most {LONGEST} characters")
    return key
