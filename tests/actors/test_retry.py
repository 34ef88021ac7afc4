"""One retry policy: a few tries, each after about twice the wait, and none for a permanent fault."""

import random

import pytest

from actors.retry import ENGINE_RESTARTS, REQUEST_RETRIES, RetryPolicy, is_passing
from bus.messages.generation import RefusalCode


def test_the_wait_doubles_up_to_the_longest_and_then_it_gives_up() -> None:
    policy = RetryPolicy(attempts=5, first_s=1.0, longest_s=6.0, jitter=0.0)
    waits = [policy.delay_s(failures, random.Random(0)) for failures in range(1, 8)]
    assert waits == [1.0, 2.0, 4.0, 6.0, 6.0, None, None]


def test_those_who_failed_together_do_not_come_back_together() -> None:
    policy = RetryPolicy(attempts=3, first_s=10.0, longest_s=10.0, jitter=0.2)
    randomness = random.Random(1)
    waits = {policy.delay_s(1, randomness) or 0.0 for _ in range(100)}
    assert len(waits) > 90
    assert 8.0 <= min(waits) <= max(waits) <= 12.0


@pytest.mark.parametrize("policy", [ENGINE_RESTARTS, REQUEST_RETRIES])
def test_every_policy_ends(policy: RetryPolicy) -> None:
    assert policy.delay_s(policy.attempts, random.Random(0)) is not None
    assert policy.delay_s(policy.attempts + 1, random.Random(0)) is None


def test_only_faults_that_pass_are_worth_another_try() -> None:
    assert is_passing(RefusalCode.ENGINE_LOST)
    for permanent in (RefusalCode.INVALID, RefusalCode.CONTEXT_LENGTH, RefusalCode.MODEL_NOT_FOUND):
        assert not is_passing(permanent)
