"""A rank's share of the kept prefixes on its node's disk, for the next engine of the same model and layers.

A share is a folder, FINGERPRINT.NAME: the fingerprint says what its arrays are good for, the name, which all
ranks' shares have in common, that they belong together. It is written as FINGERPRINT.NAME.partial and renamed
when it is whole. What is there can be computed again at any time: a share with anything wrong is removed.
"""

import hashlib
import logging
import os
import re
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Final

import mlx.core as mx
import msgspec

from engine.prefixes.layers import Piece
from engine.prefixes.segments import Segments, Share

logger = logging.getLogger(__name__)

FORMAT: Final = 1
"""Raised when what is written changes."""
MANIFEST: Final = "manifest"
ARRAYS: Final = "arrays.safetensors"
PARTIAL: Final = ".partial"
NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SHARE: Final = re.compile(rf"[0-9a-f]{{32}}\.{NAME.pattern}({re.escape(PARTIAL)})?")


def fingerprint(model: Path, layers: tuple[int, int], tensor: tuple[int, int], kv_bits: int | None) -> str:
    """Equal where one engine's arrays are as good as another's: 32 hexadecimal digits.

    `model`: its folder; a weight file is known by its name, size and time, as reading all of it would take
    too long. `layers`: the first of this rank's, and the one after its last. `tensor`: this rank's place in
    its stage, and how many ranks that has. Raises OSError where the folder can't be read.
    """
    weights = [(path.name, path.stat()) for path in sorted(model.glob("*.safetensors"))]
    parts = (
        FORMAT,
        version("mlx-lm"),
        (model / "config.json").read_bytes(),
        [(name, stat.st_size, stat.st_mtime_ns) for name, stat in weights],
        layers,
        tensor,
        kv_bits,
    )
    return hashlib.sha256(msgspec.msgpack.encode(parts)).hexdigest()[:32]


class Shelf:
    """Shares with one fingerprint, in a folder of shares that together take no more than a limit."""

    def __init__(self, root: Path, fingerprint: str, limit_bytes: int) -> None:
        """`root` is made when something is saved; engines may have it in common."""
        self._root = root
        self._fingerprint = fingerprint
        self._limit_bytes = limit_bytes

    @property
    def kept(self) -> str:
        """The name of the latest share that is whole, as far as can be told without reading its arrays.

        Empty: there is none. Removes those with anything wrong; what is not finished may be in the making.
        """
        whole = ""
        finished = [folder for folder in self._own() if not folder.name.endswith(PARTIAL)]
        for folder in sorted(finished, key=_modified):
            try:
                whole = _read_manifest(folder).name
            except (OSError, ValueError, msgspec.MsgspecError) as error:
                _discard(folder, error)
        return whole

    def save(self, segments: Segments, name: str, record: bytes = b"") -> bool:
        """Write all that is kept in place of what is there; `record` is what the index says of it, at rank 0.

        False, and a log line, where it is more than the limit or can't be written. Raises ValueError for a
        name that is not of letters, digits, `_` and `-`.
        """
        if not NAME.fullmatch(name):
            raise ValueError(f"kept prefixes can't be named {name!r}: use letters, digits, _ and -")
        if segments.nbytes + len(record) > self._limit_bytes:
            logger.warning(
                "kept prefixes are not saved: they take %d bytes, and %d are allowed on disk",
                segments.nbytes + len(record),
                self._limit_bytes,
            )
            return False
        folder = self._root / f"{self._fingerprint}.{name}"
        partial = folder.with_name(folder.name + PARTIAL)
        try:
            self._make_room(segments.nbytes + len(record))
            _remove(partial)
            partial.mkdir(parents=True, mode=0o700)  # it holds what people wrote
            _write(partial, name, segments.shares, record)
            _remove(folder)
            partial.rename(folder)
            _sync(self._root)
        except (OSError, RuntimeError) as error:
            logger.warning("kept prefixes can't be saved in %s: %s", self._root, error)
            _remove(partial)
            return False
        for other in self._own():
            if other != folder:
                _remove(other)
        return True

    def restore(self, segments: Segments, name: str) -> bytes | None:
        """Have `segments` hold the share of this name; returns the record that was saved with it.

        None, a log line and nothing kept, where anything is wrong with it: it is removed.
        """
        folder = self._root / f"{self._fingerprint}.{name}"
        try:
            manifest = _read_manifest(folder)
            segments.take_up(_read_shares(folder, manifest))
        except Exception as error:
            _discard(folder, error)
            segments.take_up({})
            return None
        return manifest.record

    def _own(self) -> list[Path]:
        """This fingerprint's, whole or not."""
        return [folder for folder in self._all() if folder.name.startswith(f"{self._fingerprint}.")]

    def _all(self) -> list[Path]:
        try:
            return [folder for folder in self._root.iterdir() if _SHARE.fullmatch(folder.name)]
        except OSError:
            return []

    def _make_room(self, nbytes: int) -> None:
        """Remove shares until so much more is within the limit: what it is saved in place of, and then the
        oldest, whosever they are."""
        replaced = self._own()
        others = [folder for folder in self._all() if folder not in replaced]
        sizes = {folder: _size(folder) for folder in (*replaced, *sorted(others, key=_modified))}
        taken = sum(sizes.values())
        for folder, size in sizes.items():
            if taken + nbytes <= self._limit_bytes:
                return
            _remove(folder)
            taken -= size


# -- what is in a folder -------------------------------------------------------------------------


class _Node(msgspec.Struct, frozen=True, array_like=True):
    """A share of a node, with numbers for arrays."""

    id: int
    pieces: list[tuple[list[int], list[int]]]
    """Arrays, and what the cache was made with."""
    states: list[object] | None


class _Manifest(msgspec.Struct, frozen=True, array_like=True):
    name: str
    arrays_bytes: int
    """Of the file."""
    nodes: list[_Node]
    record: bytes


class _Array(msgspec.Struct, frozen=True):
    """Stands for an array in a state."""

    array: int


def _write(folder: Path, name: str, shares: Mapping[int, Share], record: bytes) -> None:
    arrays: list[mx.array] = []
    nodes = [_packed(node, share, arrays) for node, share in shares.items()]
    path = folder / ARRAYS
    mx.save_safetensors(str(path), {str(number): array for number, array in enumerate(arrays)})
    manifest = _Manifest(name, path.stat().st_size, nodes, record)
    (folder / MANIFEST).write_bytes(msgspec.msgpack.encode(manifest))
    for written in (path, folder / MANIFEST, folder):
        _sync(written)


def _read_manifest(folder: Path) -> _Manifest:
    """Raises OSError, ValueError or MsgspecError for a folder that is not whole."""
    manifest = msgspec.msgpack.decode((folder / MANIFEST).read_bytes(), type=_Manifest)
    if not folder.name.endswith(f".{manifest.name}"):
        raise ValueError(f"it was saved as {manifest.name}")
    nbytes = (folder / ARRAYS).stat().st_size
    if nbytes != manifest.arrays_bytes:
        raise ValueError(f"its arrays have {nbytes} bytes instead of {manifest.arrays_bytes}")
    return manifest


def _read_shares(folder: Path, manifest: _Manifest) -> dict[int, Share]:
    loaded = mx.load(str(folder / ARRAYS))
    assert isinstance(loaded, dict)
    # At once: their file may be replaced.
    mx.eval(loaded)
    return {node.id: _unpacked(node, loaded) for node in manifest.nodes}


def _packed(node: int, share: Share, arrays: list[mx.array]) -> _Node:
    """Adds what is to be saved to `arrays`."""

    def number(array: mx.array) -> int:
        arrays.append(array)
        return len(arrays) - 1

    def pack(state: object) -> object:
        match state:
            case mx.array():
                return _Array(number(state))
            case list():
                return [pack(part) for part in state]
            case _:
                return state

    pieces = [([number(array) for array in piece.arrays], list(piece.made_with)) for piece in share.tokens]
    return _Node(node, pieces, None if share.states is None else [pack(state) for state in share.states])


def _unpacked(node: _Node, arrays: Mapping[str, mx.array]) -> Share:
    def unpack(state: object) -> object:
        match state:
            case {"array": number}:
                return arrays[str(number)]
            case list():
                return [unpack(part) for part in state]
            case _:
                return state

    pieces = [
        Piece(tuple(arrays[str(number)] for number in numbers), tuple(made_with))
        for numbers, made_with in node.pieces
    ]
    return Share(
        tuple(pieces), None if node.states is None else tuple(unpack(state) for state in node.states)
    )


# -- files ---------------------------------------------------------------------------------------


def _discard(folder: Path, error: Exception) -> None:
    logger.warning("kept prefixes in %s can't be used (%s): starting without them", folder, error)
    _remove(folder)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _modified(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:  # another engine has removed it
        return 0


def _size(folder: Path) -> int:
    try:
        return sum(file.stat().st_size for file in folder.iterdir())
    except OSError:
        return 0


def _sync(path: Path) -> None:
    """Have it on the disk before a name says that it is."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
