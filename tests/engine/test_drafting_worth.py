"""Guessing pays, or is left."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from engine.drafting.worth import MOST, MOST_ROWS, Worth

Cost = Callable[[int, int], float]
"""Seconds of a step by rows and guesses for each."""


def memory_bound(rows: int, width: int) -> float:
    """As on an accelerator: reading the weights is what takes long, whatever is computed with them."""
    return 0.010 + 0.0002 * rows * (1 + width)


def compute_bound(rows: int, width: int) -> float:
    """As on a processor: another kernel as soon as there is more than a token, and each takes its time."""
    return 0.010 * rows if width == 0 else 0.010 * rows * (1.3 + 0.35 * width)


@dataclass
class Engine:
    """Steps that take as long as is said here, and guesses that are right as often."""

    cost: Cost
    drafting_s: float = 0.00005
    worth: Worth = field(default_factory=Worth)
    draws: random.Random = field(default_factory=lambda: random.Random(5))
    spent_s: float = 0.0
    made: int = 0
    widths: list[int] = field(default_factory=list)

    def run(self, steps: int, *chances: float, first: int = 0) -> "Engine":
        """One row for each chance that a guess is right, if those before it are."""
        uids = range(first, first + len(chances))
        for _ in range(steps):
            width = self.worth.width(uids)
            accepted = [self._right(width, chance) for chance in chances]
            drafting_s = self.drafting_s if width else 0.0
            took_s = self.cost(len(uids), width) * self.draws.uniform(0.9, 1.1)
            self.worth = self.worth.after_step(uids, width, took_s, [width] * len(uids), accepted, drafting_s)
            self.spent_s += took_s + drafting_s
            self.made += len(uids) + sum(accepted)
            self.widths.append(width)
        return self

    def _right(self, width: int, chance: float) -> int:
        right = 0
        while right < width and self.draws.random() < chance:
            right += 1
        return right

    def measured_afresh(self) -> "Engine":
        self.spent_s, self.made, self.widths = 0.0, 0, []
        return self

    @property
    def speed(self) -> float:
        return self.made / self.spent_s


def best_speed(cost: Cost, chance: float, rows: int = 1) -> float:
    """What the best fixed number of guesses makes."""

    def made(width: int) -> float:
        return rows * sum(chance**place for place in range(width + 1))

    return max(made(width) / cost(rows, width) for width in range(MOST + 1))


@pytest.mark.parametrize("cost", [memory_bound, compute_bound])
@pytest.mark.parametrize("rows", [1, 3])
def test_what_is_never_right_costs_next_to_nothing(cost: Cost, rows: int) -> None:
    engine = Engine(cost).run(300, *[0.0] * rows).measured_afresh().run(3000, *[0.0] * rows)
    assert engine.speed > 0.98 * rows / cost(rows, 0)


@pytest.mark.parametrize("cost", [memory_bound, compute_bound])
def test_the_beginning_costs_little_too(cost: Cost) -> None:
    engine = Engine(cost).run(300, 0.0)
    assert engine.speed > 0.93 / cost(1, 0)


@pytest.mark.parametrize(
    ("cost", "chance"),
    [(memory_bound, 0.8), (memory_bound, 0.4), (compute_bound, 0.8), (compute_bound, 0.95)],
)
@pytest.mark.parametrize("rows", [1, 3])
def test_what_is_often_right_is_as_fast_as_it_can_be(cost: Cost, chance: float, rows: int) -> None:
    engine = Engine(cost).run(100, *[chance] * rows).measured_afresh().run(1000, *[chance] * rows)
    assert engine.speed > 0.93 * best_speed(cost, chance, rows)


def test_text_that_becomes_repetitive_is_noticed_and_text_that_no_longer_is() -> None:
    engine = Engine(compute_bound).run(2000, 0.02)
    engine.measured_afresh().run(600, 0.95)
    assert engine.speed > 1.4 / compute_bound(1, 0)
    engine.measured_afresh().run(600, 0.02)
    assert engine.speed > 0.93 / compute_bound(1, 0)


def test_a_repetitive_sequence_is_found_after_many_that_were_not() -> None:
    engine = Engine(memory_bound)
    for uid in range(30):
        engine.run(60, 0.0, first=uid)
    engine.measured_afresh().run(100, 0.9, first=30)
    assert engine.speed > 2.0 / memory_bound(1, 0)


def test_what_one_row_wins_pays_for_another_or_does_not() -> None:
    both = Engine(memory_bound).run(600, 0.9, 0.0)
    assert both.widths[-1] > 0
    costly = Engine(compute_bound).run(600, 0.6, 0.0, 0.0)
    assert sum(width > 0 for width in costly.widths[100:]) < 25


def test_drafting_that_takes_longer_than_it_wins_is_left() -> None:
    engine = Engine(memory_bound, drafting_s=0.05).run(300, 0.8).measured_afresh().run(1000, 0.8)
    assert engine.speed > 0.98 / memory_bound(1, 0)


def test_steps_that_grow_slower_with_their_context_are_followed() -> None:
    factor = 1.0

    def growing(rows: int, width: int) -> float:
        return factor * memory_bound(rows, width)

    engine = Engine(growing)
    for _ in range(40):
        engine.run(50, 0.7)
        factor *= 1.05
    engine.measured_afresh().run(500, 0.7)
    assert engine.speed > 0.93 * best_speed(growing, 0.7)


def test_a_step_that_took_very_long_once_changes_little() -> None:
    engine = Engine(memory_bound).run(400, 0.8)
    engine.worth = engine.worth.after_step([0], 4, 5.0, [4], [4], 0.0)
    engine.worth = engine.worth.after_step([0], 0, 5.0, [0], [0], 0.0)
    engine.measured_afresh().run(50, 0.8)
    assert engine.speed > 0.93 * best_speed(memory_bound, 0.8)


def test_many_rows_are_not_guessed_for() -> None:
    engine = Engine(memory_bound).run(50, *[1.0] * (MOST_ROWS + 1))
    assert set(engine.widths) == {0}
    assert engine.worth == Worth()
    assert Worth().width([]) == 0


def test_who_has_left_is_forgotten() -> None:
    worth = Engine(memory_bound).run(50, 0.5, 0.5).worth
    assert set(worth.forget([0]).sequences) == {1}


def test_rows_without_any_guess_count_as_wrong_and_say_nothing_of_later_positions() -> None:
    def steps(offered: Sequence[int], accepted: Sequence[int]) -> Worth:
        worth = Worth()
        for _ in range(4):
            worth = worth.after_step([1], 0, 0.01, [0], [0], 0.0)
        for had, right in zip(offered, accepted, strict=True):
            worth = worth.after_step([1], 4, 0.01, [had], [right], 0.0)
        return worth

    none = steps([0] * 20, [0] * 20).rates.shares()
    two = steps([2] * 20, [2] * 20).rates.shares()
    assert none[0] < 0.05
    assert two[1] > 0.95
    assert two[2] == pytest.approx(two[1])
