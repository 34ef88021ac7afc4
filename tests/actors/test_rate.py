"""Who is sent away is told to come back when there is room, going by how the line has moved of late."""

from actors.running.rate import LONGEST_S, SHORTEST_S, WINDOW_S, Departures


def line(every_s: float, count: int, start: float = 0.0) -> tuple[Departures, float]:
    """A line that is never empty and that one leaves at regular times; and what time it is then."""
    departures = Departures()
    departures.note(start, 0, 10)
    now = start
    for _ in range(count):
        now += every_s
        departures.note(now, 1, 10)
    return departures, now


def test_room_for_more_takes_longer() -> None:
    departures, now = line(every_s=2.0, count=9)
    assert departures.wait_s(now, 5) == 5 * 18.0 / 10
    assert departures.wait_s(now, 50) == 10 * departures.wait_s(now, 5)


def test_with_many_departures_the_rate_is_theirs() -> None:
    departures, now = line(every_s=0.5, count=2000)
    assert abs(departures.wait_s(now, 20) - 10.0) < 0.5


def test_a_line_that_has_not_moved_yet_is_waited_for_the_longer_the_longer_it_stands() -> None:
    departures = Departures()
    departures.note(100.0, 0, 10)
    assert departures.wait_s(100.0, 1) == SHORTEST_S
    assert departures.wait_s(140.0, 1) == 40.0
    assert departures.wait_s(140.0, 2) == 80.0
    assert departures.wait_s(4000.0, 2) == LONGEST_S


def test_a_line_that_slows_down_is_noticed_before_the_next_one_leaves() -> None:
    departures, now = line(every_s=0.1, count=20)
    assert departures.wait_s(now + 60.0, 1) > 2 * departures.wait_s(now, 1)


def test_time_in_which_nobody_waited_does_not_count() -> None:
    departures, now = line(every_s=2.0, count=9)
    before = departures.wait_s(now, 5)
    departures.note(now, 1, 0)
    departures.note(now + 3600.0, 0, 10)
    assert departures.wait_s(now + 3600.0, 5) <= before


def test_what_was_long_ago_does_not_count() -> None:
    departures, now = line(every_s=0.01, count=60)
    departures.note(now + WINDOW_S, 1, 10)
    departures.note(now + 3 * WINDOW_S, 1, 10)
    assert departures.wait_s(now + 3 * WINDOW_S, 1) > WINDOW_S / 2
