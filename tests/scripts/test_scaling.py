"""scripts/scale: a small cluster from start to end, when something held for all, and what grows too fast."""

from dataclasses import replace
from pathlib import Path

import pytest

from scripts.scaling.__main__ import main, render, render_growth
from scripts.scaling.growth import judge
from scripts.scaling.measuring import Figures, measure
from scripts.scaling.timeline import agreed_since, holds_since, knows_all
from scripts.scaling.words import Saw

FIVE = Figures(
    nodes=5,
    all_known_s=0.2,
    agreed_s=0.1,
    joining_cpu_s=0.05,
    bytes_in=3000.0,
    bytes_out=3000.0,
    messages_in=14.0,
    messages_out=14.0,
    cpu=0.01,
    fact_s=0.001,
    fact_at_most_s=0.002,
    missed_s=0.4,
    rejoined_s=0.2,
    replaced_s=0.9,
)


async def test_six_nodes_meet_agree_share_facts_and_replace_who_is_killed(tmp_path: Path) -> None:
    figures = await measure(6, idle_s=1.5, folder=tmp_path)
    assert figures.nodes == 6
    assert min(figures.messages_in, figures.messages_out) > 5.0
    assert figures.bytes > 500.0
    assert 0.0 < figures.fact_s <= figures.fact_at_most_s
    assert min(figures.all_known_s, figures.missed_s, figures.rejoined_s, figures.replaced_s) > 0.0
    assert "| nodes " in render([figures])


# -- when something held ---------------------------------------------------------------------------


def saw(at: float, members: int, *coordinators: str) -> Saw:
    return Saw(1, at, members, members + 1, 0, coordinators)


def test_what_held_and_was_lost_again_counts_from_when_it_came_back() -> None:
    one = [saw(1.0, 1), saw(2.0, 0), saw(3.0, 1), saw(4.0, 1, "x")]
    two = [saw(0.0, 0), saw(2.5, 1)]
    assert holds_since({1: one, 2: two}, [1, 2], knows_all(2, 0)) == 3.0


def test_nothing_holds_for_all_before_each_has_seen_it() -> None:
    timelines = {1: [saw(1.0, 1)], 2: [saw(0.0, 0)]}
    assert holds_since(timelines, [1, 2], knows_all(2, 0)) is None
    assert holds_since(timelines, [1, 3], knows_all(2, 0)) is None
    assert holds_since({}, [], knows_all(2, 0)) is None


def test_nodes_agree_when_all_see_one_coordinator_the_same_and_not_the_one_that_was_lost() -> None:
    timelines = {1: [saw(1.0, 1, "x")], 2: [saw(1.0, 1, "x", "y"), saw(2.0, 1, "x")]}
    assert agreed_since(timelines, [1, 2]) == 2.0
    assert agreed_since(timelines, [1, 2], without="x") is None
    timelines[1].append(saw(3.0, 1, "y"))
    assert agreed_since(timelines, [1, 2]) is None
    assert agreed_since(timelines, [1, 3]) is None


# -- what grows too fast ---------------------------------------------------------------------------


def grown(per_node: float, times: float) -> Figures:
    """Fifty nodes: what passes, and what each computes, grew so much; and the times that it takes."""
    return replace(
        FIVE,
        nodes=50,
        bytes_in=FIVE.bytes_in * per_node,
        bytes_out=FIVE.bytes_out * per_node,
        joining_cpu_s=FIVE.joining_cpu_s * per_node,
        all_known_s=FIVE.all_known_s * times,
        rejoined_s=FIVE.rejoined_s * times,
    )


def test_growth_with_the_number_of_others_is_kept() -> None:
    linear = 49 / 4
    assert all(growth.is_kept for growth in judge([FIVE, grown(linear, linear)], cores=4))


def test_growth_with_its_square_is_not() -> None:
    square = (49 / 4) ** 2
    assert not any(growth.is_kept for growth in judge([grown(square, 10 * square), FIVE], cores=4))
    slow = [growth for growth in judge([FIVE, grown(49 / 4, square)], cores=64) if not growth.is_kept]
    assert [growth.what for growth in slow] == ["until all know all", "until all know one more"]
    assert "NO" in render_growth(slow)


def test_one_size_alone_is_not_judged() -> None:
    assert judge([FIVE], cores=4) == []


def test_numbers_of_nodes_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--nodes", "2"])
    assert "numbers of nodes are 3 to 200" in capsys.readouterr().err
