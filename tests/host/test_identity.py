"""Who a node is: the same one after every start."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host import identity


def test_an_id_is_made_once_and_kept(tmp_path: Path) -> None:
    first = identity.node_id(tmp_path / "data")
    assert identity.node_id(tmp_path / "data") == first
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["node.id"]


def test_two_folders_are_two_nodes(tmp_path: Path) -> None:
    assert identity.node_id(tmp_path / "a") != identity.node_id(tmp_path / "b")


def test_nodes_that_start_at_once_in_one_folder_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        ids = set(pool.map(identity.node_id, [tmp_path] * 64))
    assert len(ids) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["node.id"]


def test_a_spoiled_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "node.id").write_text("not an id")
    with pytest.raises(identity.IdentityError, match="remove it"):
        identity.node_id(tmp_path)


def test_a_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(identity.IdentityError, match="--data-dir"):
        identity.node_id(tmp_path / "file" / "data")


def test_a_wished_name_is_taken_and_a_host_has_one_anyway() -> None:
    assert identity.node_name("Anna's Mac") == "Anna's Mac"
    assert identity.node_name()


def test_a_host_without_a_name_still_gets_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.node", lambda: "")
    assert identity.node_name() == "node"


@given(st.text())
def test_a_name_is_one_short_visible_line(text: str) -> None:
    name = identity.clean(text)
    assert len(name) <= 63
    assert name == name.strip()
    assert name.isprintable()
