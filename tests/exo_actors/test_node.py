"""What a node is built from its settings."""

from pathlib import Path

import pytest

from exo_actors.node import named_folder


def test_what_starts_like_a_path_is_a_folder_and_the_rest_a_model_of_the_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    assert named_folder("~/models/mine") == Path("/home/anna/models/mine"), "EXO_MODEL=~/... has no shell"
    assert named_folder("/models/mine") == Path("/models/mine")
    assert named_folder("./mine") == Path("mine")
    assert named_folder("~nobody-of-that-name/mine") == Path("~nobody-of-that-name/mine")
    assert named_folder("org/mine") is None
    assert named_folder("guide") is None
