"""Memory is counted ahead: nobody takes what is not there, and everybody's turn comes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from bus.messages.engine import Budget
from engine.memory.admission import (
    AHEAD,
    MARGIN,
    Admit,
    Holding,
    Refuse,
    Relief,
    Wait,
    admits,
    prefix_room,
    pressed,
    room_ever,
)
from engine.memory.footprint import ENDLESS, Footprint, Layer

PLAIN = Footprint(((Layer(token_bytes=100), 10),), step=1)
"""A thousand bytes per token; three tenths of a lane's bytes to copy it."""


def budget(kv_bytes: int, short: bool = False) -> Budget:
    return Budget(kv_bytes, cache_bytes=0, short=short)


def holding(length: int, limit: int = ENDLESS, arrived: int = 0) -> Holding:
    return Holding(length, limit, arrived)


# -- one decision ----------------------------------------------------------------------------------


def test_who_has_room_to_grow_is_admitted_and_prefixes_stay() -> None:
    assert admits(PLAIN, budget(10**9), [[], []], 0, holding(1000), prefix_bytes=10**6) == Admit()


def test_kept_prefixes_give_way_to_who_comes() -> None:
    verdict = admits(PLAIN, budget(2_000_000), [[]], 0, holding(1000, 1000), prefix_bytes=1_500_000)
    assert verdict == Admit(prefix_bytes=2_000_000 - 1_300_000)


def test_what_a_draft_model_takes_is_there_for_nobody_else() -> None:
    verdict = admits(PLAIN, budget(2_000_000), [[]], 0, holding(1000, 1000), 1_500_000, beside=200_000)
    assert verdict == Admit(prefix_bytes=500_000)
    one, both = [[holding(500, 500)]], [[holding(500, 500), holding(500, 500, arrived=1)]]
    enough = budget(PLAIN.batch([500, 500]) + PLAIN.copying([500, 500]))
    assert admits(PLAIN, enough, one, 0, holding(500, 500), prefix_bytes=0) == Admit()
    assert isinstance(admits(PLAIN, enough, one, 0, holding(500, 500), 0, beside=1), Wait)
    assert pressed(PLAIN, enough, both, prefix_bytes=0) == Relief()
    assert pressed(PLAIN, enough, both, 0, beside=1).preempt == ((0, 1),)
    assert prefix_room(PLAIN, enough, one) - prefix_room(PLAIN, enough, one, beside=7) == 7


def test_who_finds_no_room_waits_and_is_told_the_numbers() -> None:
    lanes = [[holding(1000, 1000)]]
    verdict = admits(PLAIN, budget(2_000_000), lanes, 0, holding(700, 700), prefix_bytes=0)
    # Its row is padded to a thousand tokens, too, and copied with the other.
    assert verdict == Wait("waits for memory: needs 1.3 MB of KV cache, 0.7 MB is free")
    large = Footprint(((Layer(token_bytes=100_000), 10),), step=1)
    verdict = admits(large, budget(2 * 10**9), lanes, 0, holding(700, 700), prefix_bytes=0)
    assert verdict == Wait("waits for memory: needs 1.3 GB of KV cache, 0.7 GB is free")


def test_another_lanes_longest_row_costs_nothing() -> None:
    lanes: list[list[Holding]] = [[holding(1000, 1000)], []]
    assert admits(PLAIN, budget(2_000_000), lanes, 1, holding(700, 700), prefix_bytes=0) == Admit()


def test_growth_of_those_who_run_is_counted_before_somebody_comes() -> None:
    enough = 2 * (1000 + MARGIN) * 1300
    lanes = [[holding(1000)]]
    assert admits(PLAIN, budget(enough), lanes, 0, holding(1000), prefix_bytes=0) == Admit()
    assert isinstance(admits(PLAIN, budget(enough - 1), lanes, 0, holding(1000), prefix_bytes=0), Wait)
    # Who can't grow needs no room for it.
    fixed = [[holding(1000, 1000)]]
    assert admits(PLAIN, budget(enough - 10**5), fixed, 0, holding(1000, 1000), 0) == Admit()


def test_who_could_never_fit_is_refused_at_once_with_the_numbers() -> None:
    verdict = admits(PLAIN, budget(1_300_000), [[]], 0, holding(1001), prefix_bytes=0)
    assert verdict == Refuse(
        "1001 tokens need 1.3 MB of KV cache, and this engine may hold 1.3 MB: 1000 tokens at most"
    )
    assert room_ever(PLAIN, budget(1_300_000)) == 1000
    assert room_ever(PLAIN, budget(0)) == 0


def test_a_machine_short_of_memory_keeps_nothing_and_admits_nobody_beside_others() -> None:
    scarce = budget(10**9, short=True)
    verdict = admits(PLAIN, scarce, [[holding(10)]], 0, holding(10), prefix_bytes=0)
    assert verdict == Wait("waits for memory: the machine is short of it, and others are running")
    assert admits(PLAIN, scarce, [[]], 0, holding(10), prefix_bytes=5) == Admit(prefix_bytes=0)
    assert pressed(PLAIN, scarce, [[holding(10)]], prefix_bytes=5) == Relief(prefix_bytes=0)
    assert prefix_room(PLAIN, scarce, [[]]) == 0


def test_nothing_happens_while_there_is_room() -> None:
    assert pressed(PLAIN, budget(10**9), [[holding(1000)], []], prefix_bytes=10**6) == Relief()
    assert pressed(PLAIN, budget(0), [[], []], prefix_bytes=0) == Relief()


def test_kept_prefixes_go_before_anybody_is_put_off() -> None:
    lanes = [[holding(1000, arrived=1), holding(1000, arrived=2)]]
    needed = 2 * (1000 + AHEAD) * 1300
    assert pressed(PLAIN, budget(needed + 7), lanes, prefix_bytes=100) == Relief(prefix_bytes=7)
    assert pressed(PLAIN, budget(needed), lanes, prefix_bytes=0) == Relief()
    assert pressed(PLAIN, budget(needed - 1), lanes, prefix_bytes=9) == Relief(None, ((0, 1),))
    assert prefix_room(PLAIN, budget(needed + 7), lanes) == 7


def test_the_youngest_are_put_off_wherever_they_run_and_no_more_than_needed() -> None:
    lanes = [
        [holding(1000, arrived=7), holding(1000, arrived=1)],
        [holding(1000, arrived=9), holding(1000, arrived=3)],
    ]
    three = (3 * 1000 + 2 * 300) * (1000 + AHEAD)
    assert pressed(PLAIN, budget(three), lanes, 0).preempt == ((1, 0),)
    assert pressed(PLAIN, budget(three - 1), lanes, 0).preempt == ((1, 0), (0, 0))
    assert pressed(PLAIN, budget(1), lanes, 0).preempt == ((1, 0), (0, 0), (1, 1))


# -- all of them together --------------------------------------------------------------------------

layers = st.tuples(
    st.builds(
        Layer,
        token_bytes=st.integers(0, 64),
        window=st.none() | st.integers(1, 600),
        fixed_bytes=st.integers(0, 5000),
    ),
    st.integers(1, 8),
)
footprints = st.builds(
    Footprint,
    st.lists(layers, min_size=1, max_size=3, unique_by=lambda each: each[0]).map(tuple),
    step=st.sampled_from([1, 256]),
    slice_tokens=st.integers(1, 300),
)
holdings = st.tuples(st.integers(1, 3000), st.integers(0, 1500), st.integers(0, 99)).map(
    lambda each: Holding(each[0], each[0] + each[1], each[2])
)
lanes_of_some = st.lists(st.lists(holdings, max_size=5), min_size=1, max_size=3)
budgets = st.builds(budget, st.integers(0, 20_000_000), st.booleans())


@settings(deadline=None, derandomize=True)
@given(footprints, budgets, lanes_of_some, st.integers(0, 10**7))
def test_relief_is_enough_for_the_next_step_and_never_takes_the_last_one(
    footprint: Footprint, limit: Budget, lanes: list[list[Holding]], prefix_bytes: int
) -> None:
    relief = pressed(footprint, limit, lanes, prefix_bytes)
    places = {(lane, place) for lane, rows in enumerate(lanes) for place in range(len(rows))}
    left = places - set(relief.preempt)
    assert len(left) >= min(1, len(places))
    assert len(relief.preempt) == len(set(relief.preempt))
    if relief.preempt and left:
        assert max(arrived(lanes, left)) <= min(arrived(lanes, relief.preempt))
    kept = prefix_bytes if relief.prefix_bytes is None else relief.prefix_bytes
    assert kept <= prefix_bytes
    rest = [
        [row for place, row in enumerate(rows) if (lane, place) in left] for lane, rows in enumerate(lanes)
    ]
    if len(left) > 1:
        assert taken(footprint, grown(rest, AHEAD)) + kept <= limit.kv_bytes
    if len(left) == 1 and kept:
        assert taken(footprint, rest) + kept <= limit.kv_bytes
    # Asked again, nothing more is needed; and one fewer would not have been enough.
    assert pressed(footprint, limit, rest, kept) == Relief()
    if relief.preempt:
        enough = replace_place(rest, lanes, relief.preempt[-1])
        assert taken(footprint, grown(enough, AHEAD)) > limit.kv_bytes


def arrived(
    lanes: list[list[Holding]], places: Sequence[tuple[int, int]] | set[tuple[int, int]]
) -> list[int]:
    return [lanes[lane][place].arrived for lane, place in places]


def replace_place(
    rest: list[list[Holding]], lanes: list[list[Holding]], place: tuple[int, int]
) -> list[list[Holding]]:
    """The one that was put off last is back."""
    lane, at = place
    return [[*rows, lanes[lane][at]] if index == lane else rows for index, rows in enumerate(rest)]


def grown(lanes: list[list[Holding]], tokens: int) -> list[list[Holding]]:
    return [[replace(row, length=min(row.length + tokens, row.limit)) for row in rows] for rows in lanes]


def taken(footprint: Footprint, lanes: list[list[Holding]]) -> int:
    """Bytes at the worst moment of a step."""
    lengths = [[row.length for row in rows] for rows in lanes]
    return sum(map(footprint.batch, lengths)) + max(map(footprint.copying, lengths))


@settings(deadline=None, derandomize=True)
@given(footprints, budgets, lanes_of_some, holdings, st.integers(0, 10**7), st.data())
def test_who_is_admitted_can_grow_beside_all_others(
    footprint: Footprint,
    limit: Budget,
    lanes: list[list[Holding]],
    candidate: Holding,
    prefix_bytes: int,
    data: st.DataObject,
) -> None:
    lane = data.draw(st.integers(0, len(lanes) - 1))
    verdict = admits(footprint, limit, lanes, lane, candidate, prefix_bytes)
    assert isinstance(verdict, Refuse) == (candidate.length > room_ever(footprint, limit))
    if not any(lanes):
        assert not isinstance(verdict, Wait)
    if isinstance(verdict, Admit):
        kept = prefix_bytes if verdict.prefix_bytes is None else verdict.prefix_bytes
        after = [[*rows, candidate] if index == lane else rows for index, rows in enumerate(lanes)]
        assert taken(footprint, after) + kept <= limit.kv_bytes
        assert pressed(footprint, limit, after, kept).preempt == ()
        if any(lanes):
            assert taken(footprint, grown(after, MARGIN)) + kept <= limit.kv_bytes


@dataclass
class Engine:
    """Does as it is told, in the order of arrival."""

    footprint: Footprint
    limit: Budget
    waiting: list[Holding]
    lanes: list[list[Holding]]
    prefix_bytes: int = 0

    def step(self, growth: int) -> None:
        relief = pressed(self.footprint, self.limit, self.lanes, self.prefix_bytes)
        if relief.prefix_bytes is not None:
            self.prefix_bytes = relief.prefix_bytes
        away = [self.lanes[lane][place] for lane, place in relief.preempt]
        self.lanes = [[row for row in rows if row not in away] for rows in self.lanes]
        self.waiting = sorted([*self.waiting, *away], key=lambda row: row.arrived)
        if not away:
            self.admit()
        self.lanes = grown(self.lanes, growth)
        assert taken(self.footprint, self.lanes) + self.prefix_bytes <= self.limit.kv_bytes
        ended = [row for rows in self.lanes for row in rows if row.length == row.limit]
        self.lanes = [[row for row in rows if row.length < row.limit] for rows in self.lanes]
        room = prefix_room(self.footprint, self.limit, self.lanes)
        kept = sum(self.footprint.token_bytes * row.length for row in ended)
        self.prefix_bytes = min(self.prefix_bytes + kept, max(room, self.prefix_bytes))

    def admit(self) -> None:
        while self.waiting:
            lane = min(range(len(self.lanes)), key=lambda index: len(self.lanes[index]))
            verdict = admits(self.footprint, self.limit, self.lanes, lane, self.waiting[0], self.prefix_bytes)
            assert not isinstance(verdict, Refuse)
            if isinstance(verdict, Wait):
                return
            if verdict.prefix_bytes is not None:
                self.prefix_bytes = verdict.prefix_bytes
            self.lanes[lane].append(self.waiting.pop(0))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    footprints,
    st.integers(100_000, 5_000_000),
    st.lists(st.tuples(st.integers(1, 1500), st.integers(1, 1500)), min_size=1, max_size=8),
    st.integers(1, 2),
    st.booleans(),
    st.integers(1, AHEAD),
)
def test_the_budget_is_never_overrun_and_everybody_ends(
    footprint: Footprint,
    kv_bytes: int,
    wanted: list[tuple[int, int]],
    lanes: int,
    short: bool,
    growth: int,
) -> None:
    limit = budget(kv_bytes, short)
    most = room_ever(footprint, limit)
    fitting = [
        Holding(prompt, min(prompt + answer, most), number)
        for number, (prompt, answer) in enumerate(wanted)
        if prompt < most
    ]
    engine = Engine(footprint, limit, fitting, [[] for _ in range(lanes)])
    patience = sum(row.limit - row.length for row in fitting) // growth + 2 * len(fitting) + 1
    # Whoever is put off begins again, but keeps its tokens: nothing is done twice.
    for _ in range(patience):
        engine.step(growth)
    assert not engine.waiting
    assert not any(engine.lanes)
