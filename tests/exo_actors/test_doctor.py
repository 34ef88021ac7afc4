"""The doctor looks at everything, and says what to do about what is wrong."""

import os
import socket
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from bus.messages.facts import Memory, Pressure
from exo_actors import checks, doctor, packages
from exo_actors.cluster_key import cluster_key
from exo_actors.findings import Finding, Verdict
from exo_actors.settings import Settings, read
from host import probe
from host.blas import BlasState

GB = 1_000_000_000

TRIAL = probe.Trial(
    version="0.32.4",
    backend="cpu",
    device="a CPU",
    blas=BlasState.PRELOADED,
    blas_build="OpenBLAS 0.3.21",
    blas_note="",
    threads=2,
    gigaflops=90.0,
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return read(["doctor", "--port", "0", "--data-dir", str(tmp_path / "data")], {})


def test_everything_is_looked_at(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.report(settings) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} <= {"ok", "warn"}
    for what in (
        "Python",
        "packages",
        "MLX",
        "BLAS",
        "memory",
        "port",
        "listen",
        "key",
        "data",
        "models",
        "model:",
    ):
        assert any(what in line for line in lines), what


def test_one_failure_is_exit_code_1(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Finding(Verdict.FAIL, "MLX: gone", "get it back")
    monkeypatch.setattr(checks, "CHECKS", (lambda _: iter([broken]),))
    assert doctor.report(settings) == 1


def test_without_its_packages_it_still_answers(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "exo_actors.checks")
    monkeypatch.setitem(sys.modules, "psutil", None)
    for name in [name for name in sys.modules if name.startswith("host")]:
        monkeypatch.delitem(sys.modules, name)
    assert doctor.report(settings) == 1
    assert "psutil" in capsys.readouterr().out


def test_packages_outside_their_bounds_are_named() -> None:
    requirements = [Requirement("pytest>=1000"), Requirement("no-such-package"), Requirement("pytest>=1")]
    assert [str(misfit) for misfit in packages.misfits(requirements)] == [
        f"pytest {pytest.__version__} (needs >=1000)",
        "no-such-package is missing (needs )",
    ]


def test_blas_shows_its_worth_or_how_to_get_one() -> None:
    [used] = checks.judge_blas(TRIAL, bare_gigaflops=1.5)
    assert used == Finding(Verdict.OK, "BLAS: OpenBLAS 0.3.21, 2 threads, 60 times as fast as without")
    absent = probe.Trial("0.32.4", "cpu", "a CPU", BlasState.ABSENT, "", "install OpenBLAS", None, 1.5)
    [missing] = checks.judge_blas(absent, None)
    assert (missing.verdict, missing.advice) == (Verdict.WARN, "install OpenBLAS")


def test_little_memory_is_a_warning() -> None:
    plenty = Memory(total_bytes=16 * GB, available_bytes=8 * GB, pressure=Pressure.NORMAL)
    little = Memory(total_bytes=16 * GB, available_bytes=GB // 2, pressure=Pressure.NORMAL)
    short = Memory(total_bytes=16 * GB, available_bytes=8 * GB, pressure=Pressure.CRITICAL)
    assert checks.judge_memory(plenty).verdict is Verdict.OK
    assert checks.judge_memory(little).verdict is Verdict.WARN
    assert checks.judge_memory(short).verdict is Verdict.WARN


def test_a_port_in_use_is_a_warning_and_a_foreign_address_a_failure(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        [taken] = checks.check_port(read(["--port", port], {}))
    assert taken.verdict is Verdict.WARN
    [free] = checks.check_port(read(["--port", port], {}))
    assert free.verdict is Verdict.OK
    [foreign] = checks.check_port(read(["--host", "192.0.2.1"], {}))
    assert foreign.verdict is Verdict.FAIL
    [any_port] = checks.check_port(settings)
    assert any_port.verdict is Verdict.OK


def test_an_address_of_another_machine_can_not_be_listened_on() -> None:
    [foreign] = checks.check_listen(read(["--listen", "192.0.2.1"], {}))
    assert foreign.verdict is Verdict.FAIL
    assert "--listen takes one of this machine's" in foreign.advice
    [any_port] = checks.check_listen(read(["--bus-port", "0"], {}))
    assert any_port.verdict is Verdict.OK


def test_a_bus_port_in_use_matters_only_where_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        [taken] = checks.check_listen(read(["--bus-port", str(port)], {}))
        monkeypatch.setattr(checks, "DEFAULT_BUS_PORT", port)
        [shared] = checks.check_listen(read([], {}))
    assert (taken.verdict, shared.verdict) == (Verdict.WARN, Verdict.OK)
    assert "--bus-port" in taken.advice
    assert "any free port" in shared.what


def test_a_key_is_looked_at_and_not_made(settings: Settings) -> None:
    [none_yet] = checks.check_key(settings)
    path = settings.data_dir / "cluster.key"
    assert none_yet.verdict is Verdict.OK
    assert not path.exists()
    key = cluster_key(None, settings.data_dir)
    [kept] = checks.check_key(settings)
    assert kept == Finding(Verdict.OK, f"key: {path}")
    assert key not in str(kept)
    path.chmod(0o644)
    [open_to_others] = checks.check_key(settings)
    assert open_to_others.verdict is Verdict.FAIL
    assert f"chmod 600 {path}" in open_to_others.what
    [given] = checks.check_key(read(["--cluster-key", "too short"], {}))
    assert given.verdict is Verdict.FAIL


def test_a_data_dir_in_the_way_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    [finding] = checks.check_data_dir(read(["--data-dir", str(tmp_path / "file" / "data")], {}))
    assert finding.verdict is Verdict.FAIL
    assert "--data-dir" in finding.advice


def test_model_folders_and_what_is_in_them(tmp_path: Path) -> None:
    half = tmp_path / "models" / "org" / "half"
    half.mkdir(parents=True)
    (half / "model.safetensors.partial").write_bytes(b"half of it")
    (tmp_path / "file").write_text("no folder")
    flags = [f"--models-dir={tmp_path / name}" for name in ("models", "missing", "file")]
    found, missing, wrong, *models = checks.check_models(read(flags, {}))
    assert found.verdict is Verdict.OK
    assert "not there yet" in missing.what
    assert wrong.verdict is Verdict.WARN
    [incomplete] = [model for model in models if "org/half" in model.what]
    assert incomplete.verdict is Verdict.WARN
    assert ".partial" in incomplete.advice


def test_a_read_only_folder_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda _, mode: not mode & os.W_OK)  # root may write anywhere
    found, *_ = checks.check_models(read([f"--models-dir={tmp_path}"], {}))
    assert found == Finding(Verdict.OK, f"models: {tmp_path} (read-only)")


def test_files_of_api_keys_are_looked_at_where_there_are_any(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    asked = read(["doctor", "--data-dir", str(tmp_path / "data"), "--api-keys", str(path)], {})
    assert [found.verdict for found in checks.check_api_keys(asked)] == [Verdict.FAIL]
    path.write_text('{"keys": [{"key": "sk-alice"}]}')
    path.chmod(0o600)
    (found,) = checks.check_api_keys(asked)
    assert (found.verdict, found.what) == (Verdict.OK, f"API keys: 1 in {path}")
