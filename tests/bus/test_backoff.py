"""Whatever is tried again waits longer each time, up to a bound, and not at the same moment as all others."""

from bus.backoff import Backoff


def test_waits_double_up_to_the_longest() -> None:
    backoff = Backoff(first_s=1.0, longest_s=6.0, jitter=0.0)
    assert [backoff.wait_s(failures) for failures in range(1, 6)] == [1.0, 2.0, 4.0, 6.0, 6.0]
    assert backoff.wait_s(10**6) == 6.0


def test_those_who_failed_together_do_not_come_back_together() -> None:
    backoff = Backoff(first_s=10.0, longest_s=10.0, jitter=0.2)
    waits = {backoff.wait_s(1) for _ in range(100)}
    assert len(waits) > 90
    assert 8.0 <= min(waits) <= max(waits) <= 12.0
