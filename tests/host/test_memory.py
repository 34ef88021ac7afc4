"""Memory: what the systems print, read right, and what is made of it."""

import pytest

from bus.messages.facts import Pressure
from host import memory

GIB = 2**30

PSI_QUIET = """\
some avg10=0.00 avg60=0.00 avg300=0.00 total=0
full avg10=0.00 avg60=0.00 avg300=0.00 total=0
"""
PSI_BUSY = """\
some avg10=45.59 avg60=12.01 avg300=3.10 total=18273645
full avg10=22.10 avg60=6.52 avg300=1.44 total=9127364
"""
MEMORY_PRESSURE = """\
The system has 34359738368 (2097152 pages with a page size of 16384).
System-wide memory free percentage: 81%
"""


def test_this_machine_has_memory() -> None:
    now = memory.read()
    assert 0 < now.available_bytes <= now.total_bytes


def test_psi_is_read_as_shares_of_time() -> None:
    assert memory.parse_psi(PSI_QUIET) == memory.Stall(0.0, 0.0)
    assert memory.parse_psi(PSI_BUSY) == memory.Stall(0.4559, 0.221)


@pytest.mark.parametrize("text", ["", "none of it", "some avg10=x", "some avg10=", "full avg10=1.0"])
def test_what_is_no_psi_is_not_guessed_at(text: str) -> None:
    assert memory.parse_psi(text) is None


def test_the_worst_of_machine_and_groups_counts() -> None:
    stalls = [memory.Stall(0.1, 0.0), memory.Stall(0.0, 0.2)]
    assert memory.worst_stall(stalls) == memory.Stall(0.1, 0.2)
    assert memory.worst_stall([]) is None


@pytest.mark.parametrize(
    ("share", "some", "full", "expected"),
    [
        (0.5, 0.0, 0.0, Pressure.NORMAL),
        (0.5, 0.15, 0.0, Pressure.WARNING),
        (0.5, 0.45, 0.0, Pressure.CRITICAL),
        (0.5, 0.15, 0.15, Pressure.CRITICAL),
        (0.08, 0.0, 0.0, Pressure.WARNING),
        (0.02, 0.0, 0.0, Pressure.CRITICAL),
    ],
)
def test_linux_is_judged_by_waiting_and_by_what_is_left(
    share: float, some: float, full: float, expected: Pressure
) -> None:
    now = memory.judge_linux(100 * GIB, int(share * 100 * GIB), memory.Stall(some, full))
    assert now.pressure is expected
    assert now.stalled == some
    assert now.reason == ""


def test_without_psi_the_reason_says_so() -> None:
    now = memory.judge_linux(100 * GIB, 50 * GIB, None)
    assert now.pressure is Pressure.NORMAL
    assert now.stalled is None
    assert "PSI" in now.reason


def test_a_container_has_no_more_than_its_limit() -> None:
    statistics = f"anon 1\ninactive_file {GIB}\nactive_file 5\n"
    limit, current = str(8 * GIB), str(6 * GIB)
    assert memory.within(64 * GIB, 40 * GIB, limit, current, statistics) == (8 * GIB, 3 * GIB)


@pytest.mark.parametrize("limit", ["max", ""])
def test_a_group_without_a_limit_changes_nothing(limit: str) -> None:
    assert memory.within(64, 40, limit, "30", "") == (64, 40)


def test_a_container_over_its_limit_has_nothing_left() -> None:
    assert memory.within(64, 40, "10", "12", "") == (10, 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1\n", Pressure.NORMAL), ("2\n", Pressure.WARNING), ("4\n", Pressure.CRITICAL), ("", Pressure.UNKNOWN)],
)
def test_macos_judges_itself(text: str, expected: Pressure) -> None:
    assert memory.parse_pressure_level(text) is expected


def test_macos_tells_the_free_share() -> None:
    assert memory.parse_free_share(MEMORY_PRESSURE) == 0.81
    assert memory.parse_free_share("memory_pressure: command not understood") is None


def test_a_mac_is_read_through_its_own_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"sysctl": "2\n", "memory_pressure": MEMORY_PRESSURE}
    monkeypatch.setattr("host.commands.output", lambda command, *_: answers.get(command))
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    now = memory.read()
    assert now.pressure is Pressure.WARNING
    assert now.available_bytes == int(now.total_bytes * 0.81)


def test_a_mac_whose_commands_fail_says_why_it_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("host.commands.output", lambda *_: None)
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    now = memory.read()
    assert now.pressure is Pressure.UNKNOWN
    assert now.reason
    assert now.available_bytes > 0
