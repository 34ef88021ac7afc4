"""Who is prefilled next."""

import pytest

from engine.scheduling.scheduler import Fit, Room, WaitingLine, rank


def line(*prompts: tuple[str, int, float]) -> WaitingLine[str]:
    """Prompts as (name, tokens, arrival in seconds), on a machine that prefills 1,000 tokens a second."""
    waiting: WaitingLine[str] = WaitingLine()
    for name, tokens, arrived_s in prompts:
        waiting.add(name, tokens, rank(0, arrived_s, tokens / 1000))
    return waiting


def test_nobody_is_begun_while_a_prefill_is_under_way() -> None:
    assert line(("a", 10, 0.0)).next_group(Room(running=3, at_most=64, prefilling=1), 512) == []


def test_nobody_is_begun_when_the_batch_is_full() -> None:
    assert line(("a", 10, 0.0)).next_group(Room(running=64, at_most=64), 512) == []


def test_equal_prompts_go_in_the_order_of_their_arrival() -> None:
    waiting = line(("a", 400, 0.0), ("b", 400, 0.0), ("c", 400, 0.1))
    assert [waiting.next_group(Room(0, 64), 512) for _ in range(3)] == [["a"], ["b"], ["c"]]


def test_a_short_prompt_passes_a_long_one_that_came_a_little_earlier() -> None:
    assert line(("long", 4000, 0.0), ("short", 100, 1.0)).next_group(Room(0, 64), 512) == ["short"]


def test_a_long_prompt_is_passed_for_no_longer_than_it_takes_itself() -> None:
    assert line(("long", 4000, 0.0), ("late", 100, 4.0)).next_group(Room(0, 64), 512) == ["long"]


def test_a_prefill_under_way_gives_way_to_a_prompt_that_is_much_shorter_than_what_is_left() -> None:
    under_way = rank(0, 0.0, 4.0)
    assert line(("short", 100, 1.0)).should_pass(under_way, remaining=400)
    assert not line(("short", 100, 1.0)).should_pass(under_way, remaining=399)
    assert not line(("late", 100, 4.0)).should_pass(under_way, remaining=3000)
    assert not line().should_pass(under_way, remaining=3000)


def test_short_prompts_share_a_slice_that_has_room_for_all_of_them_padded() -> None:
    waiting = line(("a", 100, 0.0), ("b", 120, 0.0), ("c", 90, 0.0), ("d", 100, 0.0))
    assert waiting.next_group(Room(0, 64), 360) == ["c", "a", "d"]
    assert waiting.next_group(Room(0, 64), 360) == ["b"]


def test_a_long_prompt_shares_its_slice_with_nobody() -> None:
    assert line(("a", 600, 0.0), ("b", 700, 0.0)).next_group(Room(0, 64), 512) == ["a"]


@pytest.mark.parametrize("free", [1, 2, 5])
def test_a_group_is_no_larger_than_the_room_that_is_left(free: int) -> None:
    waiting = line(*((str(number), 10, 0.0) for number in range(9)))
    assert len(waiting.next_group(Room(64 - free, 64), 2048)) == free
    assert len(waiting) == 9 - free


def test_who_is_not_wanted_any_more_leaves_the_line() -> None:
    waiting = line(("a", 10, 0.0), ("b", 10, 1.0), ("c", 10, 2.0))
    assert waiting.drop(lambda name: name != "b") == ["a", "c"]
    assert waiting.next_group(Room(0, 64), 512) == ["b"]
    assert len(waiting) == 0


def test_a_step_of_priority_is_worth_having_come_ten_seconds_earlier() -> None:
    waiting = line(("usual", 10, 0.0))
    waiting.add("important", 4000, rank(1, 5.0, 4.0))
    waiting.add("idle", 1, rank(-1, 0.0, 0.0))
    assert waiting.in_order() == ["important", "usual", "idle"]
    assert [waiting.next_group(Room(0, 64), 1)[0] for _ in range(3)] == ["important", "usual", "idle"]


def test_whose_priority_is_low_does_not_wait_for_ever_though_others_keep_coming() -> None:
    waiting = line(("usual", 10, 19.0), ("late", 10, 21.0))
    waiting.add("idle", 10, rank(-2, 0.0, 0.01))
    assert waiting.in_order() == ["usual", "idle", "late"]


def test_who_can_not_begin_yet_is_passed_and_who_needs_memory_is_not() -> None:
    fits = {"a": Fit.NOT_YET, "b": Fit.YES, "c": Fit.NEVER, "d": Fit.NOBODY, "e": Fit.YES}
    waiting = line(*((name, 10, float(place)) for place, name in enumerate(fits)))
    assert waiting.next_group(Room(0, 64), 2048, lambda name, _: fits[name]) == ["b"]
    assert waiting.in_order() == ["a", "d", "e"]
