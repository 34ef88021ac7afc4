"""What the steps of a lane teach about the pace, though most of them decode and prefill as well."""

from collections.abc import Iterator, Sequence
from typing import cast

import pytest

from engine.scheduling import track
from engine.scheduling.batch import Batch
from engine.scheduling.pace import Pace
from engine.scheduling.track import Track
from engine.steps.entry import Entry
from engine.steps.stepper import Chosen, Kept, Stepped, Stepper


class Stub:
    """Takes whatever it is asked to compute."""

    def __init__(self) -> None:
        self.uids: Iterator[int] = iter(range(100))

    def insert(self, lane: int, entry: Entry, kept: Kept | None) -> int:
        return next(self.uids)

    def begin(
        self, lane: int, slice_tokens: int, decoding: Sequence[int], joining: Sequence[int], *rest: object
    ) -> None: ...


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


class Lane:
    """One stream that decodes, and a prompt of which each step prefills 64 tokens."""

    def __init__(self, clock: Clock, goes_ahead: bool) -> None:
        self.clock = clock
        self.batch = Batch(cast(Stepper, Stub()))
        self.track = Track(self.batch, goes_ahead)
        self.pace = Pace(0.06)
        self.batch.insert(Entry([1]))
        self.track.wake()
        self.step(0.5, None)  # it joins, which is no measure
        self.batch.insert(Entry([1] * 10_000))

    def step(self, tokens_s: float, rest_s: float | None, slice_s: float | None = None) -> None:
        """Its tokens are chosen after `tokens_s`, and all of it is done `rest_s` later."""
        self.track.begin(64 if rest_s is not None else 0)
        self.clock.now_s += tokens_s
        self.news(decoded=True, done=rest_s is None)
        if rest_s is not None:
            self.clock.now_s += rest_s
            self.news(decoded=False, done=True, slice_s=slice_s)

    def news(self, decoded: bool, done: bool, slice_s: float | None = None) -> None:
        chosen = [Chosen(0, 1)] if decoded else []
        _, self.pace = self.track.finish(Stepped(0, chosen, (), decoded, done, slice_s=slice_s), self.pace)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(track, "time", clock)
    return clock


def test_steps_that_do_both_teach_what_each_costs(clock: Clock) -> None:
    lane = Lane(clock, goes_ahead=False)
    for _ in range(40):
        lane.step(0.02, 0.064)
    assert lane.pace.decode_s == pytest.approx(0.02)
    assert lane.pace.expected_s(64, 1000) == pytest.approx(0.064)


def test_what_was_begun_ahead_belongs_to_the_next_step_and_not_to_the_slice(clock: Clock) -> None:
    lane = Lane(clock, goes_ahead=True)
    lane.step(0.02, 0.064 + 0.018, slice_s=0.064)  # after the join, whose costs are in it
    for _ in range(40):
        lane.step(0.002, 0.064 + 0.018, slice_s=0.064)
    assert lane.pace.decode_s == pytest.approx(0.02)
    assert lane.pace.expected_s(64, 1000) == pytest.approx(0.064)


def test_a_stream_that_gets_slower_while_prompts_are_prefilled_is_noticed(clock: Clock) -> None:
    lane = Lane(clock, goes_ahead=False)
    lane.step(0.005, None)
    for _ in range(40):
        lane.step(0.1, 0.01)
    assert lane.pace.decode_s == pytest.approx(0.1, rel=0.01)


def test_moving_caches_for_who_joins_is_a_cost_of_its_own_where_steps_begin_ahead(clock: Clock) -> None:
    lane = Lane(clock, goes_ahead=True)
    lane.step(0.05, 0.01, slice_s=0.01)  # the first step after the join
    lane.step(0.02, 0.01, slice_s=0.01)
    assert lane.pace.join_s == pytest.approx(0.05)
    assert lane.pace.decode_s == pytest.approx(0.02)
