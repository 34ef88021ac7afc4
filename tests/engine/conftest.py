"""Models with random weights that the engine's tests run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from host import blas

if TYPE_CHECKING:
    from engine.loader import Loaded
    from tests.engine.harness import Harness

# As in the engine itself: before MLX is imported, and without looking for anything on the internet.
blas.preload()
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

Models = Callable[[str], Path]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """Folders of small models by architecture, each made once."""
    from scripts.make_model import make_model

    root = tmp_path_factory.mktemp("models")

    def folder(architecture: str) -> Path:
        path = root / architecture
        return path if path.exists() else make_model(architecture, path, layers=2)

    return folder


@pytest.fixture(scope="session")
def loaded(models: Models) -> Loaded:
    """A small llama."""
    from engine.loader import load

    return load(models("llama"), None, lambda doing, progress: None)


@pytest.fixture
def harness(loaded: Loaded) -> Harness:
    """A step loop over the small llama, to be turned by hand."""
    from tests.engine.harness import Harness

    return Harness(loaded)
