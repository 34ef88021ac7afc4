"""KV cache is shared out among a node's engines: never more than is free, and never less for being used."""

from dataclasses import replace
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.planner.memory import HEADROOM, LEAST_FREED, MOST_FREED, Needs, freed_bytes
from actors.planner.plan import plan
from actors.running.budget import (
    Engine,
    room,
    share,
    shares,
    tightest,
)
from actors.running.course import (
    CALM_S,
    GROW_S,
    PAUSE_S,
    RELIEF_S,
    SHRINK_S,
    STEP_S,
    STEPS,
    Course,
    begin,
    differs,
    follow,
)
from bus.messages.base import InstanceId
from bus.messages.engine import Budget
from bus.messages.facts import Accelerator, AcceleratorKind, NodeFact, Pressure
from bus.messages.placement import Wish
from tests.actors.planner_examples import GIB, MODEL, copies, node, shape

MIB = 2**20
TOTAL = 64 * GIB
TICK_S = 0.5


def machine(
    available: int,
    total: int = TOTAL,
    pressure: Pressure = Pressure.NORMAL,
    kind: AcceleratorKind = AcceleratorKind.METAL,
    limit: int | None = None,
) -> NodeFact:
    fact = node("a", 0.0, accelerator=Accelerator(kind=kind, name="x", memory_bytes=limit))
    memory = msgspec.structs.replace(
        fact.memory, total_bytes=total, available_bytes=available, pressure=pressure
    )
    return msgspec.structs.replace(fact, memory=memory)


def engine(
    name: str = "i", *, fixed: int = 0, context: int = GIB, kv: int = 0, cap: int | None = None
) -> Engine:
    """One that is loaded: it holds all its fixed memory."""
    return Engine(
        (InstanceId(name), 1), fixed, context, active_bytes=fixed + kv, kv_bytes=kv, loaded=True, cap=cap
    )


def wanted(name: str = "i", *, fixed: int, context: int = GIB) -> Engine:
    """One that is declared and not loaded."""
    return Engine((InstanceId(name), 1), fixed, context)


# -- shares ----------------------------------------------------------------------------------------


def test_one_engine_has_what_is_free_but_for_the_headroom_and_freed_memory() -> None:
    free = 40 * GIB
    assert room(machine(free), [engine()]) == free - int(TOTAL * HEADROOM) - freed_bytes(TOTAL, 1)


def test_what_is_placed_and_not_loaded_yet_is_not_free() -> None:
    alone = room(machine(40 * GIB), [engine()])
    beside = room(machine(40 * GIB), [engine(), wanted("j", fixed=10 * GIB)])
    assert beside == alone - 10 * GIB
    half_loaded = replace(wanted("j", fixed=10 * GIB), active_bytes=4 * GIB)
    assert room(machine(36 * GIB), [engine(), half_loaded]) == beside


def test_engines_have_room_for_equally_many_contexts() -> None:
    large, small = engine("large", context=3 * GIB), engine("small", context=GIB)
    granted = shares(8 * GIB, [large, small])
    assert granted == {large.key: 6 * GIB, small.key: 2 * GIB}


def test_what_a_wish_does_not_allow_is_the_others() -> None:
    capped, free = engine("a", cap=GIB), engine("b")
    assert shares(8 * GIB, [capped, free]) == {capped.key: GIB, free.key: 7 * GIB}
    assert shares(8 * GIB, [capped, free], kv_memory=3 * GIB) == {capped.key: GIB, free.key: 2 * GIB}


def test_contexts_come_before_the_headroom_but_half_of_what_is_available_stays_free() -> None:
    short = machine(4 * GIB)
    assert room(short, [engine(context=GIB)]) == GIB
    assert room(short, [engine(context=9 * GIB)]) == (4 * GIB - freed_bytes(TOTAL, 1)) // 2
    assert room(machine(0), [engine(context=GIB)]) == 0


def test_a_gpu_with_memory_of_its_own_does_not_look_at_the_machines() -> None:
    card = machine(GIB, kind=AcceleratorKind.CUDA, limit=80 * GIB)
    found = room(card, [engine(fixed=20 * GIB, kv=5 * GIB)])
    assert found == 60 * GIB - int(80 * GIB * HEADROOM) - freed_bytes(80 * GIB, 1)


def test_the_limit_of_shared_memory_holds_as_well() -> None:
    bounded = machine(60 * GIB, limit=48 * GIB)
    assert room(bounded, [engine(fixed=20 * GIB)]) == 28 * GIB - freed_bytes(TOTAL, 1)


def test_freed_memory_is_reckoned_from_all_engines_of_the_node() -> None:
    assert freed_bytes(512 * GIB, 1) == MOST_FREED
    assert freed_bytes(512 * GIB, 4) == MOST_FREED // 4
    assert freed_bytes(8 * GIB, 100) == LEAST_FREED
    first = share(machine(40 * GIB), [engine("a"), engine("b")], engine("a").key)
    last = share(machine(40 * GIB), [engine("a"), engine("b")], engine("b").key)
    assert first.cache_bytes == last.cache_bytes == freed_bytes(TOTAL, 2)


def test_the_tightest_rank_decides() -> None:
    assert tightest(10 * GIB, 20, [(GIB, 10), (20 * GIB, 10)]) == 2 * GIB
    assert tightest(GIB, 20, [(GIB, 10)]) == GIB
    assert tightest(GIB, 20, []) == GIB


@settings(max_examples=50)
@given(
    st.integers(6, 63),
    st.sampled_from([16 * GIB, 64 * GIB]),
    st.sampled_from(AcceleratorKind),
    st.one_of(st.none(), st.integers(6, 40)),
)
def test_a_context_that_is_placed_on_an_idle_node_has_room_in_its_engine(
    available: int, total: int, kind: AcceleratorKind, limit: int | None
) -> None:
    fact = machine(available * total // 64, total, kind=kind, limit=None if limit is None else limit * GIB)
    model = shape(gib=4.0)
    for choice in plan(Wish(MODEL), copies([fact], model, context=100_000), [fact]).choices:
        needs = Needs(model, choice.context, 1)
        own = wanted(fixed=needs.fixed(0, 32), context=needs.cache(0, 32))
        assert room(fact, [own]) >= own.context_bytes


sizes = st.integers(0, 40 * GIB)
engines = st.builds(
    Engine,
    key=st.tuples(st.sampled_from([InstanceId(name) for name in "abcdef"]), st.integers(1, 2)),
    fixed_bytes=sizes,
    context_bytes=sizes,
    active_bytes=sizes,
    kv_bytes=sizes,
    cached_bytes=st.integers(0, 2 * GIB),
    loaded=st.booleans(),
    cap=st.one_of(st.none(), sizes),
)
crowds = st.lists(engines, min_size=1, max_size=5, unique_by=lambda each: each.key)
machines = st.builds(
    machine,
    available=st.integers(0, TOTAL),
    kind=st.sampled_from(AcceleratorKind),
    limit=st.one_of(st.none(), st.integers(0, TOTAL)),
)


@given(machines, crowds, st.one_of(st.none(), sizes))
def test_all_budgets_together_never_exceed_what_is_free(
    fact: NodeFact, crowd: list[Engine], kv_memory: int | None
) -> None:
    granted = [share(fact, crowd, each.key, kv_memory).kv_bytes for each in crowd]
    held = sum(each.kv_bytes for each in crowd)
    available, limit = fact.memory.available_bytes, fact.accelerator.memory_bytes
    if fact.accelerator.kind is AcceleratorKind.CUDA and limit is not None:
        available = max(0, limit - sum(each.active_bytes + each.cached_bytes for each in crowd))
    free = available + held + sum(each.cached_bytes for each in crowd)
    assert sum(granted) <= max(0, free)
    assert kv_memory is None or sum(granted) <= kv_memory
    for each, bytes_granted in zip(crowd, granted, strict=True):
        assert bytes_granted >= 0
        assert each.cap is None or bytes_granted <= each.cap


@given(
    st.integers(10 * GIB, TOTAL),
    st.integers(0, 10 * GIB),
    st.sampled_from(AcceleratorKind),
    st.integers(0, GIB),
)
def test_what_an_engine_takes_of_its_budget_does_not_shrink_it(
    available: int, taken: int, kind: AcceleratorKind, freed: int
) -> None:
    idle = engine(fixed=GIB)
    full = replace(engine(fixed=GIB, kv=taken), cached_bytes=freed)
    before = room(machine(available, kind=kind, limit=60 * GIB), [idle])
    assert room(machine(available - taken - freed, kind=kind, limit=60 * GIB), [full]) == before


# -- with time -------------------------------------------------------------------------------------


def run(course: Course, frees: list[int], *, start: float = 0.0, crowd: tuple[Engine, ...] = ()) -> list[int]:
    """The budgets at each tick from `start` on, with so much available at each; nothing is held."""
    shown = []
    for number, free in enumerate(frees, 1):
        own = engine()
        now_share = share(machine(free), [own, *crowd], own.key)
        course = follow(course, now_share, start + number * TICK_S)
        shown.append(course.budget.kv_bytes)
    return shown


def first(free: int, pressure: Pressure = Pressure.NORMAL) -> Course:
    return begin(share(machine(free, pressure=pressure), [engine()], engine().key), 0.0)


def ticks(seconds: float) -> int:
    return round(seconds / TICK_S)


@settings(max_examples=50)
@given(st.lists(st.integers(-96, 96), min_size=100, max_size=100))
def test_a_machine_that_breathes_does_not_move_a_budget(breaths: list[int]) -> None:
    """By 3 % of its size to either side."""
    base = 40 * GIB
    size = first(base).budget.kv_bytes
    shown = run(first(base), [base + size * breath // 3200 for breath in breaths])
    assert set(shown) == {size}


@settings(max_examples=50)
@given(st.lists(st.integers(8 * GIB, 60 * GIB), min_size=100, max_size=100))
def test_whatever_the_machine_does_a_budget_changes_at_most_once_in_a_while_and_is_covered(
    frees: list[int],
) -> None:
    shown = run(first(40 * GIB), frees)
    changes = [place for place in range(1, len(shown)) if shown[place] != shown[place - 1]]
    gaps = [(after - before) * TICK_S for before, after in pairwise(changes)]
    assert all(gap >= PAUSE_S for gap in gaps)
    for place in changes:
        if shown[place] > shown[place - 1]:
            watched = frees[max(0, place - ticks(GROW_S) + 1) : place + 1]
            assert shown[place] <= min(watched), "it grows to no more than was there all the time"


def test_one_low_reading_is_no_shortage_and_a_lasting_one_is() -> None:
    size = first(40 * GIB).budget.kv_bytes
    blip = [40 * GIB] * 10 + [20 * GIB] + [40 * GIB] * 40
    assert set(run(first(40 * GIB), blip)) == {size}
    lasting = run(first(40 * GIB), [40 * GIB] * 10 + [20 * GIB] * 20)
    assert lasting[9 + ticks(SHRINK_S)] == size - 20 * GIB
    assert lasting[-1] == size - 20 * GIB


def test_a_budget_grows_when_there_was_more_for_a_while() -> None:
    size = first(20 * GIB).budget.kv_bytes
    shown = run(first(20 * GIB), [40 * GIB] * 60)
    assert shown[ticks(GROW_S) - 2] == size
    assert shown[-1] == size + 20 * GIB


@pytest.mark.parametrize(("late", "rate"), [(2, GIB), (4, 2 * GIB), (-1, GIB)])
def test_a_budget_is_steady_while_it_is_filled_though_readings_are_of_different_times(
    late: int, rate: int
) -> None:
    """What is available is read `late` ticks before what the engine holds, or after that."""
    course = first(40 * GIB)
    size = course.budget.kv_bytes
    for number in range(1, 100):
        held = min(size, number * rate)
        seen_held = min(size, max(0, number - late) * rate)
        own = engine(kv=held)
        course = follow(course, share(machine(40 * GIB - seen_held), [own], own.key), number * TICK_S)
        assert course.budget.kv_bytes == size


def test_another_engine_makes_room_at_once() -> None:
    course = first(40 * GIB)
    shown = run(course, [40 * GIB], start=PAUSE_S, crowd=(wanted("j", fixed=10 * GIB),))
    assert shown[0] < course.budget.kv_bytes // 2


def under(course: Course, pressure: Pressure, begin_s: float, end_s: float) -> Course:
    now = begin_s
    while now <= end_s:
        fact = machine(40 * GIB, pressure=pressure)
        course = follow(course, share(fact, [engine()], engine().key), now)
        now += TICK_S
    return course


def test_a_warning_takes_step_after_step_and_calm_gives_them_back_slowly() -> None:
    course = first(40 * GIB)
    whole = course.budget
    course = under(course, Pressure.WARNING, TICK_S, PAUSE_S)
    assert course.budget == Budget(whole.kv_bytes * 3 // 4, LEAST_FREED)
    course = under(course, Pressure.WARNING, PAUSE_S + TICK_S, PAUSE_S + 2 * STEP_S * STEPS)
    at = PAUSE_S + 2 * STEP_S * STEPS
    assert course.budget.kv_bytes == whole.kv_bytes * 3**STEPS // 4**STEPS
    course = under(course, Pressure.NORMAL, at + TICK_S, at + CALM_S - TICK_S)
    assert course.steps == STEPS
    course = under(course, Pressure.NORMAL, at + CALM_S, at + (STEPS + 1) * (CALM_S + TICK_S))
    assert course.budget == whole


def test_a_warning_leaves_one_whole_context() -> None:
    own = engine(context=30 * GIB)
    course = begin(share(machine(40 * GIB), [own], own.key), 0.0)
    for number in range(1, 200):
        warned = machine(40 * GIB, pressure=Pressure.WARNING)
        course = follow(course, share(warned, [own], own.key), number * TICK_S)
    assert course.steps == STEPS
    assert course.budget.kv_bytes == 30 * GIB


def test_the_worst_shortage_stops_what_is_new_at_once_and_for_a_while_after() -> None:
    course = first(40 * GIB)
    assert not course.budget.short
    course = under(course, Pressure.CRITICAL, TICK_S, TICK_S)
    assert course.budget.short
    course = under(course, Pressure.NORMAL, 2 * TICK_S, RELIEF_S)
    assert course.budget.short
    course = under(course, Pressure.NORMAL, RELIEF_S + TICK_S, RELIEF_S + TICK_S)
    assert not course.budget.short
    assert first(40 * GIB, Pressure.CRITICAL).budget.short


@pytest.mark.parametrize(
    ("budget", "news"),
    [
        (Budget(1000, 100), False),
        (Budget(1049, 104), False),
        (Budget(1051, 100), True),
        (Budget(949, 100), True),
        (Budget(1000, 106), True),
        (Budget(1000, 100, short=True), True),
    ],
)
def test_an_engine_is_told_what_differs_by_more_than_a_twentieth(budget: Budget, news: bool) -> None:
    assert differs(Budget(1000, 100), budget) == news
