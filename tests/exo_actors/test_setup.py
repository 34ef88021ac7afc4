"""The scripts' set-up: once, again after a change, and with clear words where it can't be."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pip
import pytest

SCRIPTS = Path(__file__).parent.parent.parent / "scripts"

NOTHING = "# a lock file with nothing in it needs no package and no network\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with our set-up and nothing to install."""
    root = tmp_path / "a checkout"
    (root / "scripts").mkdir(parents=True)
    (root / "requirements").mkdir()
    shutil.copy(SCRIPTS / "setup.sh", root / "scripts")
    for name in ("run", "test", "cuda"):
        (root / "requirements" / f"{name}.txt").write_text(NOTHING + f"# {name}\n")
    return root


def stand_in(folder: Path, script: str) -> str:
    """A program in place of Python."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def quick_python(checkout: Path) -> str:
    """A Python whose virtual environments borrow our pip: unpacking the one that it brings takes seconds."""
    ours, borrowed = shlex.quote(sys.executable), shlex.quote(pip.__path__[0])
    make = f'{ours} -m venv --without-pip "$3" && cd "$3"/lib/python*/site-packages && ln -s {borrowed} pip'
    return stand_in(checkout, f'if [ "$1 $2" = "-m venv" ]; then {make}; else exec {ours} "$@"; fi')


def prepare(root: Path, kind: str, python: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Set up, and print the Python's folder."""
    script = f". scripts/setup.sh && prepare {kind} && \"$python\" -c 'import sys; print(sys.prefix)'"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("EXO_")}
    return subprocess.run(
        ["bash", "-euc", script],
        cwd=root,
        env=inherited | {"EXO_PYTHON": python} | environment,
        capture_output=True,
        encoding="utf-8",
        timeout=100,
        check=False,
    )


def test_it_is_done_once_and_again_after_a_change(checkout: Path, quick_python: str) -> None:
    first = prepare(checkout, "test", quick_python)
    assert first.returncode == 0, first.stderr
    assert first.stdout == f"{checkout / '.venv'}\n", "standard output is the program's own"
    assert "Setting up" in first.stderr

    for kind in ("test", "run"):  # what the tests need includes what running needs
        assert "Setting up" not in prepare(checkout, kind, quick_python).stderr

    (checkout / "requirements" / "run.txt").write_text(NOTHING + "# newer\n")
    assert "Setting up" in prepare(checkout, "run", quick_python).stderr
    assert "Setting up" in prepare(checkout, "test", quick_python).stderr
    assert "Setting up" not in prepare(checkout, "test", quick_python).stderr


def test_an_environment_that_was_cut_short_is_made_again(checkout: Path, quick_python: str) -> None:
    (checkout / ".venv" / "bin").mkdir(parents=True)
    assert prepare(checkout, "run", quick_python).returncode == 0


def test_cuda_and_cpu_do_not_share_an_environment(checkout: Path, quick_python: str) -> None:
    assert prepare(checkout, "run", quick_python).returncode == 0
    (checkout / ".venv" / "of the cpu").touch()
    assert prepare(checkout, "run", quick_python, EXO_CUDA="1").returncode == 0
    assert not (checkout / ".venv" / "of the cpu").exists()
    assert "Setting up" not in prepare(checkout, "run", quick_python, EXO_CUDA="1").stderr


def test_a_package_that_can_not_be_had_is_said_and_tried_again(checkout: Path, quick_python: str) -> None:
    wheel = checkout / "missing-1.0-py3-none-any.whl"
    (checkout / "requirements" / "run.txt").write_text(
        f"missing @ {wheel.as_uri()} --hash=sha256:{'0' * 64}\n"
    )
    for _ in range(2):
        done = prepare(checkout, "run", quick_python)
        assert done.returncode == 1
        assert "could not be installed" in done.stderr


def test_too_old_a_python_is_said_so(checkout: Path) -> None:
    old = stand_in(checkout, "exit 1")
    done = prepare(checkout, "run", old)
    assert done.returncode == 1
    assert f"EXO_PYTHON={old} is not a Python 3.11 or later" in done.stderr
    assert not (checkout / ".venv").exists()


def test_a_python_without_venv_is_said_so(checkout: Path) -> None:
    bare = stand_in(checkout, '[ "$1" != -m ]')
    done = prepare(checkout, "run", bare)
    assert done.returncode == 1
    assert f"{bare} can't make virtual environments" in done.stderr
    assert "apt install python3-venv" in done.stderr
    assert not (checkout / ".venv").exists()
