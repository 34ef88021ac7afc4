"""OpenBLAS is lent to MLX where it helps, and its absence explained."""

import json
import os
import platform
import subprocess
import sys
from importlib import metadata

import pytest

from host import blas, probe
from host.blas import BlasState

PRELOAD = """
import json, sys
{before}
from host.blas import preload
report = preload()
print(json.dumps([report.state, report.note, report.threads]))
"""


def preload_in_new_process(environment: dict[str, str], before: str = "") -> tuple[str, str, int | None]:
    """State, note and threads: a library can't be unloaded again, so each try has a process of its own."""
    code = PRELOAD.format(before=before)
    # The tests' own setting of threads would hide what is chosen without one.
    inherited = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=inherited | environment, capture_output=True, check=True, timeout=60
    )
    answer: object = json.loads(done.stdout)
    match answer:
        case [str(state), str(note), int() | None as threads]:
            return state, note, threads
        case _:
            raise AssertionError(answer)


def has_reference_build() -> bool:
    names = {distribution.metadata["Name"] for distribution in metadata.distributions()}
    return platform.system() == "Linux" and "mlx-cpu" in names


only_reference_build = pytest.mark.skipif(not has_reference_build(), reason="MLX brings a fast BLAS here")


@only_reference_build
def test_openblas_is_preloaded_or_its_absence_explained() -> None:
    state, note, threads = preload_in_new_process({})
    if state == BlasState.PRELOADED:
        assert note == ""
        assert threads is not None
        assert threads >= 1
    else:
        assert state == BlasState.ABSENT
        assert "apt install" in note


@only_reference_build
def test_the_number_of_threads_is_openblas_own_setting() -> None:
    state, _, threads = preload_in_new_process({"OPENBLAS_NUM_THREADS": "1"})
    assert state == BlasState.ABSENT or threads == 1


@only_reference_build
def test_it_can_be_switched_off() -> None:
    state, note, _ = preload_in_new_process({"EXO_BLAS": "off"})
    assert state == BlasState.OFF
    assert "EXO_BLAS" in note


@only_reference_build
def test_a_library_that_is_not_there_is_named() -> None:
    state, note, _ = preload_in_new_process({"EXO_BLAS": "/no/such/library.so"})
    assert state == BlasState.ABSENT
    assert "/no/such/library.so" in note


@only_reference_build
def test_it_says_when_it_comes_too_late() -> None:
    state, _, _ = preload_in_new_process({}, before="import mlx.core")
    assert state == BlasState.LATE


def test_a_mac_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    assert blas.preload({}).state is BlasState.NOT_NEEDED
    assert blas.advice({}) == ""


@only_reference_build
def test_advice_is_given_only_where_no_openblas_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "host.commands.output", lambda *_: "libopenblas.so.0 (libc6,x86-64) => /lib/libopenblas.so.0"
    )
    assert blas.advice({}) == ""
    monkeypatch.setattr("host.commands.output", lambda *_: "libc.so.6 (libc6,x86-64) => /lib/libc.so.6")
    assert "apt install" in blas.advice({})


def test_mlx_is_tried_in_a_process_of_its_own() -> None:
    trial = probe.try_mlx(os.environ)
    assert isinstance(trial, probe.Trial), trial
    assert trial.backend in {"metal", "cuda", "cpu"}
    assert trial.gigaflops > 0
    BlasState(trial.blas)


def test_an_mlx_that_does_not_work_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    assert probe.try_mlx(os.environ) == "the process ended with 1"
