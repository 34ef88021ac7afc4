"""One retry policy: a few tries with growing waits, and none for a permanent fault."""

import pytest

from actors.retry import (
    DOOR_RETRIES,
    ENGINE_RESTARTS,
    REQUEST_RETRIES,
    RequestTries,
    RetryPolicy,
    is_passing,
)
from bus.messages.generation import RefusalCode


@pytest.mark.parametrize("policy", [ENGINE_RESTARTS, REQUEST_RETRIES, DOOR_RETRIES])
def test_every_policy_ends(policy: RetryPolicy) -> None:
    assert policy.wait_s(policy.attempts) is not None
    assert policy.wait_s(policy.attempts + 1) is None


def test_only_faults_that_pass_are_worth_another_try() -> None:
    assert is_passing(RefusalCode.ENGINE_LOST)
    for permanent in (RefusalCode.INVALID, RefusalCode.CONTEXT_LENGTH, RefusalCode.MODEL_NOT_FOUND):
        assert not is_passing(permanent)
        assert not is_passing(permanent, admitted=True)


def test_who_has_begun_to_answer_waits_where_others_are_sent_away() -> None:
    assert not is_passing(RefusalCode.OVERLOADED)
    assert is_passing(RefusalCode.OVERLOADED, admitted=True)


def lose(tries: RequestTries, times: int, taken: bool = True) -> list[bool]:
    """Whether it is tried again, after each of so many losses."""
    again = []
    for _ in range(times):
        if taken:
            tries.took()
        again.append(tries.wait_s(RefusalCode.ENGINE_LOST, admitted=True) is not None)
    return again


def test_a_request_under_which_engines_are_lost_one_after_the_other_gives_up() -> None:
    assert lose(RequestTries(), 4) == [True, True, True, False]


def test_a_new_token_makes_up_for_the_engines_that_were_lost_before() -> None:
    tries = RequestTries()
    for _ in range(5):
        assert all(lose(tries, 3))
        tries.progressed()


def test_an_engine_that_never_took_it_counts_for_less() -> None:
    tries = RequestTries()
    assert all(lose(tries, DOOR_RETRIES.attempts, taken=False))
    assert lose(tries, 1, taken=False) == [False]
    assert lose(tries, 1) == [True]


def test_a_permanent_fault_is_the_end_at_once() -> None:
    assert RequestTries().wait_s(RefusalCode.ENGINE_FAILED, admitted=True) is None


def test_who_was_admitted_waits_for_room_as_long_as_it_takes() -> None:
    tries = RequestTries()
    waits = [tries.wait_s(RefusalCode.OVERLOADED, admitted=True) for _ in range(1000)]
    assert None not in waits
    assert lose(tries, 4) == [True, True, True, False], "what is lost in vain is counted as ever"
    assert tries.wait_s(RefusalCode.OVERLOADED, admitted=False) is None
