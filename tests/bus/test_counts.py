"""Counts: all of them, always; in the log not more than a person wants to read."""

import logging

import pytest

from bus.counts import LOG_INTERVAL_S, LOGGED_AT_MOST, Count, Counts


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_every_count_has_a_name_and_starts_at_zero() -> None:
    assert Counts().as_dict() == {str(count): 0 for count in Count}


def test_a_drop_is_logged_once_per_kind_peer_and_interval(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    counts = Counts(clock)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            counts.drop(Count.MALFORMED, "a", "truncated")
        counts.drop(Count.MALFORMED, "b", "truncated")
        counts.drop(Count.STRANGER, "a", "who")
        assert len(caplog.records) == 3
        clock.now += LOG_INTERVAL_S
        counts.drop(Count.MALFORMED, "a", "truncated")
    assert len(caplog.records) == 4
    assert "malformed, of a: truncated (5 so far" in caplog.text
    assert counts[Count.MALFORMED] == 5


def test_a_flood_of_peers_takes_bounded_memory() -> None:
    counts = Counts()
    for number in range(2 * LOGGED_AT_MOST + 10):
        counts.drop(Count.MALFORMED, f"peer {number}", "x")
    assert counts.remembered <= LOGGED_AT_MOST
    assert repr(counts) == f"<Counts malformed={2 * LOGGED_AT_MOST + 10}>"
