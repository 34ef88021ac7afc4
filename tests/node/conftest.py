"""A model for whole nodes to run: tiny, with random weights."""

from pathlib import Path

import pytest

from scripts.make_model import make_model

TINY = "tiny"


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models directory that holds a llama called `tiny`, with a context of 2048 tokens."""
    folder = tmp_path_factory.mktemp("models")
    make_model("llama", folder / TINY)
    return folder
