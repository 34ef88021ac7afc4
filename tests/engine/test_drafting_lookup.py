"""Guesses from a sequence's own tokens."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.drafting.lookup import INDEXED_AT_ONCE, LONGEST, Lookup


def test_what_was_never_said_before_is_not_guessed() -> None:
    assert Lookup([]).propose(4) == ()
    assert Lookup([1]).propose(4) == ()
    assert Lookup([1, 2, 3, 4]).propose(4) == ()
    assert Lookup([1, 2, 3, 9, 3]).propose(4) == ()


def test_what_followed_the_last_time_is_guessed() -> None:
    assert Lookup([1, 2, 3, 4, 5, 9, 1, 2]).propose(3) == (3, 4, 5)


def test_the_place_that_agrees_longest_is_taken_before_a_later_one() -> None:
    assert Lookup([7, 1, 2, 30, 8, 1, 2, 40, 7, 1, 2]).propose(1) == (30,)


def test_of_places_that_agree_equally_the_latest_is_taken() -> None:
    assert Lookup([7, 1, 2, 30, 7, 1, 2, 40, 7, 1, 2]).propose(1) == (40,)


def test_a_short_period_goes_on_beyond_the_end() -> None:
    assert Lookup([5, 6, 7, 5, 6, 7, 5, 6]).propose(7) == (7, 5, 6, 7, 5, 6, 7)
    assert Lookup([4, 4, 4]).propose(5) == (4, 4, 4, 4, 4)


def test_only_long_repetitions_count_where_that_is_asked_for() -> None:
    lookup = Lookup([1, 2, 3, 4, 5, 9, 2, 3, 4])
    assert lookup.propose(2, shortest=3) == (5, 9)
    assert lookup.propose(2, shortest=4) == ()


def test_a_long_prompt_is_indexed_over_several_calls() -> None:
    prompt = [*range(1, INDEXED_AT_ONCE), *range(100_000, 101_000), 100_500, 100_501]
    lookup = Lookup(prompt)
    assert lookup.propose(2) == ()
    assert lookup.propose(2) == (100_502, 100_503)


def by_scanning(tokens: list[int], at_most: int) -> tuple[int, ...]:
    """The same by the definition, from the start at each call."""
    best, longest = None, 1
    for place in range(len(tokens) - 1, 1, -1):
        agreed = 0
        while agreed < min(place, LONGEST) and tokens[place - 1 - agreed] == tokens[len(tokens) - 1 - agreed]:
            agreed += 1
        if agreed > longest:
            best, longest = place, agreed
    if best is None:
        return ()
    period = len(tokens) - best
    return tuple(tokens[best + index % period] for index in range(at_most))


@given(st.lists(st.integers(0, 3), max_size=24), st.integers(1, 6))
def test_it_finds_what_scanning_finds(tokens: list[int], at_most: int) -> None:
    lookup = Lookup()
    for token in tokens:
        lookup.extend([token])
        lookup.propose(1)
    assert lookup.propose(at_most) == by_scanning(tokens, at_most)


@pytest.mark.parametrize("at_once", [1, 7, 500])
def test_how_tokens_come_in_changes_nothing(at_once: int) -> None:
    draws = random.Random(3)
    tokens = [draws.randrange(12) for _ in range(500)]
    lookup = Lookup()
    for begin in range(0, len(tokens), at_once):
        lookup.extend(tokens[begin : begin + at_once])
        lookup.propose(3)
    assert lookup.propose(8) == Lookup(tokens).propose(8)
