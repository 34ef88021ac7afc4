"""Run by every Python that the tests start: what `transformers` finds out about its own files is kept.

Whenever it is imported it reads all of its thousands of source files, for a list of what is in which: half of
the time that an engine takes to start. The first process of a run keeps that list for the others, in a folder
that the environment names; a process that is given none, or has no `transformers`, is left as it is.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pickle
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

FOLDER = "EXO_TESTS_QUICK"
MODULE = "transformers.utils.import_utils"
LISTING = "define_import_structure"

Listing = Callable[..., object]


class Finder(MetaPathFinder):
    """Finds that one module as all others do, and has its listing kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Once."""
        if fullname != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = Keeping(spec.loader, self._folder)
        return spec


class Keeping(Loader):
    """Runs a module by its own loader, and puts a listing that remembers in the place of its own."""

    def __init__(self, own: Loader, folder: Path) -> None:
        self._own, self._folder = own, folder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As it would be without us."""
        return self._own.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Where a version has no such listing, nothing is kept."""
        self._own.exec_module(module)
        listing = getattr(module, LISTING, None)
        if callable(listing):
            setattr(module, LISTING, kept(listing, self._folder))


def kept(listing: Listing, folder: Path) -> Listing:
    """The same listing, read from the folder if it was made before for the same arguments."""

    def read_or_list(*arguments: object, **named: object) -> object:
        asked = repr((tuple(map(str, arguments)), sorted(named.items())))
        path = folder / hashlib.sha256(asked.encode()).hexdigest()
        if not path.exists():
            made = path.with_suffix(f".{os.getpid()}")
            made.write_bytes(pickle.dumps(listing(*arguments, **named)))
            made.replace(path)
        return pickle.loads(path.read_bytes())

    return read_or_list


if os.environ.get(FOLDER):
    sys.meta_path.insert(0, Finder(Path(os.environ[FOLDER])))
