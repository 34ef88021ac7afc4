"""A cluster's key is made once, kept from others, and taken as itself or from a file."""

import threading
from pathlib import Path

import pytest

from exo_actors.cluster_key import KEY_FILE, KeyFileError, cluster_key, make_key, read_key
from exo_actors.settings import UsageError

MADE_UP = "correct horse battery staple"


def test_a_key_is_made_at_the_first_start_and_kept(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    key = cluster_key(None, data_dir)
    assert cluster_key(None, data_dir) == key
    assert (data_dir / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in data_dir.iterdir()] == [KEY_FILE]


def test_a_key_is_32_random_bytes_in_groups_that_one_can_copy() -> None:
    groups = make_key().split("-")
    assert [len(group) for group in groups] == [4] * 13
    assert set("".join(groups)) <= set("abcdefghijklmnopqrstuvwxyz234567")
    assert make_key() != make_key()


def test_nodes_that_start_at_once_make_one_key(tmp_path: Path) -> None:
    barrier = threading.Barrier(4)
    keys: list[str] = []

    def start() -> None:
        barrier.wait()
        keys.append(cluster_key(None, tmp_path))

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 4
    assert len(set(keys)) == 1


def test_a_key_is_given_as_itself_or_as_its_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(f"  {MADE_UP}\n")
    path.chmod(0o600)
    data_dir = tmp_path / "data"
    assert cluster_key(str(path), data_dir) == MADE_UP
    assert cluster_key(f" {MADE_UP} ", data_dir) == MADE_UP
    assert not data_dir.exists()


def test_a_file_that_is_not_there_is_not_taken_for_a_key(tmp_path: Path) -> None:
    missing = tmp_path / "not-there-at-all.key"
    for name in (str(missing), "./not-there-at-all.key", "~/not-there-at-all.key"):
        with pytest.raises(UsageError, match=r"--cluster-key: there is no file .*not-there-at-all\.key"):
            cluster_key(name, tmp_path)


@pytest.mark.parametrize("key", ["short", "x" * 1025, "sixteen letters\nand a line"])
def test_what_is_no_key_is_refused_and_not_repeated(tmp_path: Path, key: str) -> None:
    with pytest.raises(UsageError) as given:
        cluster_key(key, tmp_path)
    (tmp_path / KEY_FILE).write_text(key)
    (tmp_path / KEY_FILE).chmod(0o600)
    with pytest.raises(KeyFileError, match=KEY_FILE) as kept:
        cluster_key(None, tmp_path)
    for error in (given, kept):
        assert "a key " in str(error.value)
        assert key not in str(error.value)


def test_bytes_that_are_no_text_are_no_key(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"\xff" * 32)
    path.chmod(0o600)
    with pytest.raises(ValueError, match="it is not text"):
        read_key(path)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_key_that_others_may_read_is_refused_with_what_to_do(tmp_path: Path, mode: int) -> None:
    cluster_key(None, tmp_path)
    path = tmp_path / KEY_FILE
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=f"chmod 600 {path}"):
        cluster_key(None, tmp_path)
    with pytest.raises(UsageError, match=f"chmod 600 {path}"):
        cluster_key(str(path), tmp_path)


def test_a_folder_in_which_no_key_can_be_made_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(KeyFileError, match="give --data-dir or --cluster-key"):
        cluster_key(None, tmp_path / "file")
