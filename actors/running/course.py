"""How an engine's budget changes with time: seldom, down sooner than up, in steps under pressure. Pure."""

from dataclasses import dataclass, replace
from typing import Final

from actors.planner.memory import LEAST_FREED
from actors.running.budget import Key, Share
from bus.messages.engine import Budget
from bus.messages.facts import Pressure

CHANGE: Final = 0.05
"""A budget that differs by a smaller share is the same one."""

GROWTH: Final = 0.10
"""A budget grows by no less, so that it does not follow every breath of the machine."""

PAUSE_S: Final = 3.0
"""Between two changes of a budget, unless the machine is critically short."""

SHRINK_S: Final = 2.0
"""A budget shrinks to the most that was seen for so long."""

GROW_S: Final = 10.0
"""A budget grows to the least that was seen for so long."""

STEP_S: Final = 5.0
"""Between two steps down under pressure."""

CALM_S: Final = 30.0
"""Without pressure before each step up."""

STEPS: Final = 4
"""How many steps down there are; each takes a quarter."""

RELIEF_S: Final = 5.0
"""So long the machine has to be out of the worst before anything is admitted again."""

_NEVER: Final = float("-inf")


@dataclass(frozen=True, slots=True)
class Course:
    """An engine's budget, and what it hangs on. Times are monotonic seconds."""

    budget: Budget
    changed_at: float
    crowd: frozenset[Key]
    crowd_since: float
    """When these came to share."""
    seen: tuple[tuple[float, int], ...]
    """When so many bytes would have been right, latest last; no older than matters."""
    steps: int = 0
    """Taken down for pressure."""
    stepped_at: float = _NEVER
    pressed_at: float = _NEVER
    """When there was pressure last."""
    critical_at: float = _NEVER


def begin(share: Share, now: float) -> Course:
    """The first budget of an engine: its share as it is."""
    budget = Budget(share.kv_bytes, share.cache_bytes, short=share.pressure is Pressure.CRITICAL)
    course = Course(budget, now, share.crowd, now, seen=((now, share.kv_bytes),))
    return _pressed(course, share.pressure, now)


def follow(course: Course, share: Share, now: float) -> Course:
    """How it goes on, as the engine's share is now."""
    course = _pressed(course, share.pressure, now)
    wanted = _stepped_down(share, course.steps)
    if share.crowd != course.crowd:  # what was seen before was for another number of engines
        course = replace(course, crowd=share.crowd, crowd_since=now, seen=())
    seen = (*((at, size) for at, size in course.seen if at > now - GROW_S), (now, wanted))
    course = replace(course, seen=seen)
    size = _settled(course, wanted, now)
    changed_at = now if size != course.budget.kv_bytes else course.changed_at
    budget = Budget(
        kv_bytes=size,
        cache_bytes=LEAST_FREED if course.steps else share.cache_bytes,
        short=now - course.critical_at < RELIEF_S,
    )
    return replace(course, budget=budget, changed_at=changed_at)


def differs(told: Budget, budget: Budget) -> bool:
    """Whether a budget is news to an engine that was told another one."""
    pairs = ((told.kv_bytes, budget.kv_bytes), (told.cache_bytes, budget.cache_bytes))
    return told.short != budget.short or any(abs(new - old) > CHANGE * old for old, new in pairs)


def _pressed(course: Course, pressure: Pressure, now: float) -> Course:
    """Take in how short of memory the machine is: a step down now and then, and later up again."""
    if pressure is Pressure.CRITICAL:
        course = replace(course, critical_at=now)
    if pressure in (Pressure.WARNING, Pressure.CRITICAL):
        course = replace(course, pressed_at=now)
        if course.steps < STEPS and now - course.stepped_at >= STEP_S:
            course = replace(course, steps=course.steps + 1, stepped_at=now)
    elif course.steps and now - max(course.pressed_at, course.stepped_at) >= CALM_S:
        course = replace(course, steps=course.steps - 1, stepped_at=now)
    return course


def _stepped_down(share: Share, steps: int) -> int:
    """One whole context is spared: before a request can't be taken at all, what is kept of others goes."""
    return max(int(share.kv_bytes * 0.75**steps), min(share.kv_bytes, share.context_bytes))


def _settled(course: Course, wanted: int, now: float) -> int:
    """The new size of a budget, or the old one where that will do."""
    size = course.budget.kv_bytes
    if now - course.changed_at < PAUSE_S:
        return size
    under_pressure = course.pressed_at == now
    lately = [wanted] if under_pressure else [seen for at, seen in course.seen if at > now - SHRINK_S]
    if max(lately) < size * (1 - CHANGE):
        return max(lately)
    watched_s = now - max(course.changed_at, course.crowd_since)
    least = min(seen for _, seen in course.seen)
    return least if watched_s >= GROW_S and least > size * (1 + GROWTH) else size
