"""An engine that makes no progress is noticed, and one that is only slow is left alone."""

from actors.running.watchdog import Deadlines, Watchdog
from bus.messages.engine import Beat, Phase, PhaseChange

LIMITS = Deadlines(start_s=10, load_s=20, warm_s=30, beat_s=5, step_s=15)


def ready_watchdog() -> Watchdog:
    watchdog = Watchdog(LIMITS, now=0)
    watchdog.phase_changed(PhaseChange(phase=Phase.READY, reason="ready"), now=0)
    return watchdog


def test_a_process_that_never_speaks_is_overdue_after_its_deadline() -> None:
    watchdog = Watchdog(LIMITS, now=100)
    assert watchdog.overdue(110) is None
    assert watchdog.overdue(111) == "the engine process did not start for 11 s"


def test_each_layer_loaded_renews_the_deadline() -> None:
    watchdog = Watchdog(LIMITS, now=0)
    for now in range(0, 100, 10):
        watchdog.phase_changed(PhaseChange(phase=Phase.LOADING, reason="layers", progress=now / 100), now)
        assert watchdog.overdue(now + 19) is None
    assert "loading made no progress" in (watchdog.overdue(111) or "")


def test_beats_do_not_hide_that_loading_stands_still() -> None:
    watchdog = Watchdog(LIMITS, now=0)
    watchdog.phase_changed(PhaseChange(phase=Phase.LOADING, reason="layers"), now=0)
    for now in range(1, 22):
        watchdog.beaten(Beat(steps=now), now)
    assert "loading made no progress" in (watchdog.overdue(22) or "")


def test_an_idle_engine_may_rest_for_ever_while_its_heart_beats() -> None:
    watchdog = ready_watchdog()
    for now in range(1000):
        watchdog.beaten(Beat(steps=7), now)
        assert watchdog.overdue(now) is None


def test_a_silent_engine_is_overdue() -> None:
    watchdog = ready_watchdog()
    watchdog.beaten(Beat(steps=7), now=1)
    assert "no sign of life" in (watchdog.overdue(7) or "")


def test_a_busy_engine_whose_steps_stand_still_is_overdue_though_it_beats() -> None:
    watchdog = ready_watchdog()
    for now in range(15):
        watchdog.beaten(Beat(steps=3, running=1), now)
        assert watchdog.overdue(now) is None
    watchdog.beaten(Beat(steps=3, running=1), now=16)
    assert watchdog.overdue(16) == "the engine made no step for 16 s"


def test_a_busy_engine_that_steps_on_is_left_alone() -> None:
    watchdog = ready_watchdog()
    for now in range(100):
        watchdog.beaten(Beat(steps=now, running=32), now)
        assert watchdog.overdue(now) is None
