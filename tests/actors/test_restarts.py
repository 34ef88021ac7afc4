"""The rules of restarting: who, after how long, and when it is too often."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.kernel.restarts import (
    History,
    Intensity,
    Restart,
    Strategy,
    TooManyRestarts,
    affected,
    is_restarted,
)

FAILURE = ValueError("why")


@pytest.mark.parametrize(
    ("restart", "after_failure", "after_stop"),
    [(Restart.PERMANENT, True, True), (Restart.TRANSIENT, True, False), (Restart.TEMPORARY, False, False)],
)
def test_who_is_restarted_after_what(restart: Restart, after_failure: bool, after_stop: bool) -> None:
    assert is_restarted(restart, FAILURE) is after_failure
    assert is_restarted(restart, None) is after_stop


def test_one_for_one_affects_one() -> None:
    assert list(affected("abcd", "b", Strategy.ONE_FOR_ONE)) == ["b"]


def test_rest_for_one_affects_those_after_it_too() -> None:
    assert list(affected("abcd", "b", Strategy.REST_FOR_ONE)) == ["b", "c", "d"]


def test_one_restart_above_the_limit_is_too_many() -> None:
    intensity = Intensity(restarts=3, period_s=5.0)
    history = History()
    for now_s in (0.0, 1.0, 2.0):
        history = history.with_restart(now_s, intensity)
    with pytest.raises(TooManyRestarts, match=r"more than 3 restarts in 5.0 s"):
        history.with_restart(5.0, intensity)


def test_restarts_of_long_ago_count_no_more() -> None:
    intensity = Intensity(restarts=1, period_s=5.0)
    history = History().with_restart(0.0, intensity).with_restart(5.1, intensity)
    assert history.times_s == (5.1,)


def test_with_no_restart_allowed_the_first_is_too_many() -> None:
    with pytest.raises(TooManyRestarts):
        History().with_restart(0.0, Intensity(restarts=0))


@given(st.lists(st.floats(0, 100), max_size=50), st.integers(0, 5), st.floats(0.1, 20))
def test_never_more_than_the_limit_within_any_period(gaps: list[float], limit: int, period_s: float) -> None:
    intensity = Intensity(restarts=limit, period_s=period_s)
    history, now_s = History(), 0.0
    done: list[float] = []
    for gap in gaps:
        now_s += gap
        try:
            history = history.with_restart(now_s, intensity)
            done.append(now_s)
        except TooManyRestarts:
            assert len([each for each in done if now_s - each <= period_s]) >= limit
    for first in range(len(done)):
        assert len([each for each in done[first:] if each - done[first] <= period_s]) <= max(limit, 1)
