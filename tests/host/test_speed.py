"""A machine's speed is measured by MLX itself, once, and anew when something has changed."""

import os
from pathlib import Path

import pytest

from host import probe, processor, speed

TRIAL = probe.Trial("1", "cpu", "a CPU", "absent", "", "", None, 100.0, 20.0)


def test_mlx_says_how_fast_it_computes_and_reads() -> None:
    measured = speed.measure(os.environ)
    assert isinstance(measured, speed.Speed), measured
    assert measured.gigaflops > 0
    assert measured.bandwidth_gb_s > 0


def test_what_was_measured_is_known_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "try_mlx", lambda environment: TRIAL)
    assert speed.recall(tmp_path) is None
    measured = speed.measure_and_keep(tmp_path)
    assert measured == speed.recall(tmp_path) == speed.Speed(100.0, 20.0)


def test_other_processors_or_a_damaged_file_are_a_reason_to_measure_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "try_mlx", lambda environment: TRIAL)
    speed.measure_and_keep(tmp_path)
    monkeypatch.setattr(processor, "usable_count", lambda: 1000)
    assert speed.recall(tmp_path) is None
    (tmp_path / speed.FILE).write_text("{")
    assert speed.recall(tmp_path) is None


def test_a_machine_that_cannot_be_measured_is_a_machine_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(probe, "try_mlx", lambda environment: "it crashed")
    assert speed.measure_and_keep(tmp_path) is None
    assert "it crashed" in caplog.text
