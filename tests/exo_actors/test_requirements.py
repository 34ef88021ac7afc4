"""What is locked is what setup.cfg asks for, and nothing else can be installed."""

import configparser
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent.parent


def wanted(section: str, key: str) -> list[Requirement]:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return [Requirement(line) for line in setup[section][key].splitlines() if line.strip()]


def text_of(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")


def locked(name: str) -> dict[str, set[str]]:
    """Each package's versions; more than one where Pythons differ."""
    versions: dict[str, set[str]] = {}
    for package, version in re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==([^\s;]+)", text_of(name), re.MULTILINE):
        versions.setdefault(canonicalize_name(package), set()).add(version)
    return versions


EVERYTHING = [
    *(("run", requirement) for requirement in wanted("options", "install_requires")),
    *(("test", requirement) for requirement in wanted("options.extras_require", "test")),
    *(("cuda", requirement) for requirement in wanted("options.extras_require", "cuda")),
]


@pytest.mark.parametrize(("name", "requirement"), EVERYTHING, ids=str)
def test_what_is_asked_for_is_locked_within_bounds(name: str, requirement: Requirement) -> None:
    versions = locked(name)[canonicalize_name(requirement.name)]
    assert all(requirement.specifier.contains(version) for version in versions), "run scripts/lock"


@pytest.mark.parametrize(("name", "requirement"), EVERYTHING, ids=str)
def test_every_bound_is_double(name: str, requirement: Requirement) -> None:
    operators = {specifier.operator for specifier in requirement.specifier}
    assert operators == {">=", "<"}, f"{name}: {requirement.name}"


@pytest.mark.parametrize("name", ["run", "test", "cuda"])
def test_every_package_has_hashes_and_comes_from_wherever_pip_looks(name: str) -> None:
    entries = re.split(r"^(?=[\w.-]+.*==)", text_of(name), flags=re.MULTILINE)[1:]
    assert entries
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text_of(name)


def test_the_lock_files_agree() -> None:
    run, test, cuda = locked("run"), locked("test"), locked("cuda")
    assert {name for name in run.keys() & test.keys() if not test[name] <= run[name]} == set()
    assert {name for name in run.keys() & cuda.keys() if run[name] != cuda[name]} == set()


def test_one_build_of_mlx_is_locked_for_each_kind_of_machine() -> None:
    builds = {"mlx-cpu", "mlx-metal", "mlx-cuda-12"}
    assert builds & locked("run").keys() == {"mlx-cpu", "mlx-metal"}
    assert builds & locked("cuda").keys() == {"mlx-cuda-12", "mlx-metal"}
    assert not builds & locked("test").keys()
