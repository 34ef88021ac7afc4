"""Processors: the machine's, the affinity's and the container's."""

import os
from pathlib import Path

import pytest

from host import cgroup, processor


def test_this_process_may_use_some_processors() -> None:
    assert 1 <= processor.usable_count() <= (os.cpu_count() or 1)
    assert 0 <= processor.load() <= 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [("max 100000", None), ("150000 100000\n", 1.5), ("", None), ("7", None), ("100000 0", None)],
)
def test_a_quota_is_processors_worth_of_time(text: str, expected: float | None) -> None:
    assert processor.parse_cpu_max(text) == expected


def test_the_strictest_group_limits_the_processors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outer, inner = tmp_path / "outer", tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    (outer / "cpu.max").write_text("50000 100000\n")
    (inner / "cpu.max").write_text("max 100000\n")
    monkeypatch.setattr("host.cgroup.folders", lambda: iter([inner, outer, tmp_path]))
    assert processor.usable_count() == 1


def test_a_group_and_those_above_it_are_found(tmp_path: Path) -> None:
    membership = tmp_path / "cgroup"
    membership.write_text("9:name=systemd:/\n0::/user.slice/exo.scope\n")
    found = list(cgroup.folders(Path("/cg"), membership))
    assert found == [Path("/cg/user.slice/exo.scope"), Path("/cg/user.slice"), Path("/cg")]


def test_version_one_alone_has_no_groups(tmp_path: Path) -> None:
    membership = tmp_path / "cgroup"
    membership.write_text("4:memory:/docker/abc\n1:cpu:/\n")
    assert list(cgroup.folders(Path("/cg"), membership)) == []
    assert list(cgroup.folders(Path("/cg"), tmp_path / "missing")) == []
