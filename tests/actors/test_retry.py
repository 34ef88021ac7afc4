"""One retry policy: a few tries with growing waits, and none for a permanent fault."""

import pytest

from actors.retry import ENGINE_RESTARTS, REQUEST_RETRIES, RetryPolicy, is_passing
from bus.messages.generation import RefusalCode


@pytest.mark.parametrize("policy", [ENGINE_RESTARTS, REQUEST_RETRIES])
def test_every_policy_ends(policy: RetryPolicy) -> None:
    assert policy.wait_s(policy.attempts) is not None
    assert policy.wait_s(policy.attempts + 1) is None


def test_only_faults_that_pass_are_worth_another_try() -> None:
    assert is_passing(RefusalCode.ENGINE_LOST)
    for permanent in (RefusalCode.INVALID, RefusalCode.CONTEXT_LENGTH, RefusalCode.MODEL_NOT_FOUND):
        assert not is_passing(permanent)
