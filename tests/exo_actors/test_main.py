"""The command line as a person or a script meets it: what is printed where, and the exit code."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from exo_actors import __version__
from exo_actors.__main__ import explain, main
from exo_actors.settings import read


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m exo_actors` in a process of its own."""
    command = [sys.executable, "-m", "exo_actors", *arguments]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, encoding="utf-8", timeout=60, check=False
    )


def test_wrong_usage_is_one_line_and_exit_code_2() -> None:
    done = run("--port", "http")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "exo_actors: --port: 'http' is not a port (0 to 65535)\n"


def test_a_wrong_variable_is_wrong_usage_too() -> None:
    done = run(EXO_LOG="engine=loud")
    assert done.returncode == 2
    assert done.stderr.startswith("exo_actors: EXO_LOG: 'engine=loud'")


def test_help_names_every_command_and_goes_to_standard_output() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert all(word in done.stdout for word in ("doctor", "watch", "--models-dir", "EXO_", "Exit codes"))


def test_the_version_is_told() -> None:
    assert run("--version").stdout == f"exo_actors {__version__}\n"


def test_what_fails_is_one_line_and_exit_code_1() -> None:
    done = run("watch", "--node", "http://127.0.0.1:1")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1


def test_a_data_dir_that_can_not_be_written_is_said_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert main(["--data-dir", str(tmp_path / "file")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "give another --data-dir" in error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EADDRINUSE, "Address already in use"), "127.0.0.1:80 is in use"),
        (OSError(errno.EADDRNOTAVAIL, "Cannot assign"), "no address of this machine"),
        (PermissionError(errno.EACCES, "Permission denied"), "from 1024 on"),
        (ModuleNotFoundError("No module named 'zmq'"), "scripts/run"),
        (RuntimeError("the bus is closed"), "the bus is closed"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_errors_say_what_to_do(error: Exception, words: str) -> None:
    assert words in explain(error, read(["--port", "80"], {}))
