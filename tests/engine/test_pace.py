"""How large a prefill slice may be."""

import pytest

from engine.memory.footprint import LARGEST_SLICE
from engine.regression import Line
from engine.scheduling.pace import CROWDED, IDLE_S, SHARE, SMALLEST, WEIGHT, Pace

START_S = 0.0002
SLOPE_S = 4e-7


def cost(tokens: int, position: int) -> float:
    """Seconds, of a machine whose attention is as costly as in the model."""
    return tokens * (START_S + SLOPE_S * (position + tokens / 2))


def learned(decode_s: float = 0.01, gap_s: float = 0.06) -> Pace:
    """After a prompt of 4,096 tokens in slices beside a stream."""
    pace = Pace(gap_s).after_decode(decode_s)
    position = 0
    while position < 4096:
        tokens = pace.slice(position, crowd=0.5)
        pace = pace.after_slice(cost(tokens, position), tokens, position, tokens)
        position += tokens
    return pace


def test_a_line_is_found_through_exact_points() -> None:
    line = Line()
    for x in (10.0, 20.0, 40.0, 80.0):
        line = line.seen(x, 3.0 + 0.5 * x, 0.9)
    assert line.slope == pytest.approx(0.5)
    assert line.at(100.0) == pytest.approx(53.0)


def test_a_line_forgets() -> None:
    line = Line()
    for y in [1.0] * 10 + [5.0] * 60:
        line = line.seen(7.0, y, 0.9)
    assert line.at(7.0) == pytest.approx(5.0, rel=0.01)


def test_a_line_neither_falls_nor_begins_below_zero() -> None:
    falling = Line().seen(1.0, 9.0, 1.0).seen(2.0, 1.0, 1.0)
    steep = Line().seen(100.0, 1.0, 1.0).seen(101.0, 9.0, 1.0)
    assert falling.slope == 0.0
    assert steep.at(0.0) == pytest.approx(0.0)


def test_slices_shrink_as_attention_grows_so_that_the_gap_stays() -> None:
    pace = learned()
    for position in (0, 1000, 2000, 4000):
        tokens = pace.slice(position, crowd=0.5)
        gap = 0.01 + cost(tokens, position)
        assert gap <= 0.066 or tokens == SMALLEST
        assert gap >= 0.05 or tokens >= 2 * pace.trusted - 1


def test_the_next_slice_is_at_most_twice_as_large_as_one_that_was_seen() -> None:
    pace = Pace(0.06).after_decode(0.001).after_slice(0.001, 64, 0, 64)
    assert pace.slice(0, crowd=0.5) == 128


def test_a_short_prompt_does_not_make_the_slices_smaller() -> None:
    pace = Pace(0.06).after_decode(0.001)
    pace = pace.after_slice(0.01, 256, 0, 256)
    pace = pace.after_slice(0.002, 20, 0, 512)
    assert pace.trusted == 256


def test_where_nobody_waits_for_a_token_slices_are_as_large_as_half_a_second_allows() -> None:
    pace = learned()
    tokens = 0
    for _ in range(6):
        tokens = pace.slice(0, crowd=None)
        pace = pace.after_slice(cost(tokens, 0), tokens, 0, tokens)
    assert cost(tokens, 0) == pytest.approx(IDLE_S, rel=0.3)
    assert SMALLEST <= tokens <= LARGEST_SLICE


def test_streams_that_are_slower_than_the_pace_are_slowed_by_less_than_twice() -> None:
    assert Pace(0.06).after_decode(0.2).allowance_s(30.0, False) == pytest.approx(0.2 * SHARE)


def test_many_prompts_that_wait_share_the_machine_with_streams_that_can_be_slowed() -> None:
    pace = Pace(0.06).after_decode(0.04)
    assert pace.allowance_s(0.1, False) == pytest.approx(0.04 * SHARE)
    assert pace.allowance_s(0.8, False) == pytest.approx(0.04 * WEIGHT * 0.8)
    assert pace.allowance_s(30.0, False) == pytest.approx(CROWDED * 0.06 - 0.04)


def test_streams_that_are_quick_keep_the_pace_in_a_crowd() -> None:
    assert Pace(0.06).after_decode(0.001).allowance_s(10.0, False) == pytest.approx(0.059)


def test_where_sequences_join_the_slice_makes_room_for_moving_their_cache() -> None:
    pace = Pace(0.06).after_decode(0.01).after_join(0.03)
    assert pace.allowance_s(0.5, True) == pytest.approx(0.03)
    assert pace.allowance_s(0.5, False) == pytest.approx(0.05)


def test_one_slow_slice_is_not_believed() -> None:
    pace = learned()
    before = pace.slice(1000, crowd=0.5)
    shaken = pace.after_slice(30.0, 64, 1000, 64)
    assert shaken.slice(1000, crowd=0.5) >= before // 3


def test_without_any_measure_slices_are_small() -> None:
    assert Pace(0.06).slice(0, crowd=0.5) == SMALLEST


def test_a_prompts_beginning_that_seems_to_cost_nothing_gets_a_slice_that_fits_where_it_ends() -> None:
    pace = Pace(0.06).after_decode(0.01)
    for position in (256, 512, 768):
        pace = pace.after_slice(256e-7 * position, 256, position, 256)
    assert pace.per_token.at(0) < 1e-5
    assert pace.slice(0, crowd=0.5) >= 256
