"""The tests' own shortcut: a listing that is kept is the listing that it would be, and engines use it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.quick.sitecustomize import FOLDER, kept


def test_a_listing_is_made_once_for_the_same_arguments(tmp_path: Path) -> None:
    asked: list[str] = []

    def listing(path: str, prefix: str | None = None) -> dict[frozenset[str], set[str]]:
        asked.append(f"{path} {prefix}")
        return {frozenset({path}): {f"{prefix}"}}

    for _ in range(2):
        quick = kept(listing, tmp_path)
        assert quick("a") == {frozenset({"a"}): {"None"}}
        assert quick("a", prefix="p") == {frozenset({"a"}): {"p"}}
        assert quick("b") == {frozenset({"b"}): {"None"}}
    assert asked == ["a None", "a p", "b None"]


def test_processes_of_the_tests_keep_what_transformers_lists(tmp_path: Path) -> None:
    code = "import transformers; print(transformers.AutoTokenizer)"
    environment = os.environ | {FOLDER: str(tmp_path)}
    said = [
        subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True).stdout
        for _ in range(2)
    ]
    assert said[0] == said[1] != b""
    assert list(tmp_path.iterdir()) != []
