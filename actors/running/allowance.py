"""A Runner's view of its engine's budget: follows the facts, and says when the engine has to be told."""

from typing import Final

from msgspec.structs import replace

from actors.running.budget import share
from actors.running.course import Course, begin, differs, follow
from actors.running.instance_state import InstanceState
from actors.running.neighbours import engines_on, fitting_context
from actors.running.ranks import Ranks
from bus.messages.engine import Budget, Phase
from bus.messages.facts import NodeFact
from bus.view import ClusterView

_TOLD: Final = frozenset({Phase.READY, Phase.DRAINING})
"""Phases in which an engine is told of a change: before, it has no use for it."""

TAKEN_S: Final = 5.0
"""So long after it was told, and after it was ready, an engine's beats have to show it."""


class Allowance:
    """To be used on the loop's thread only. Times are monotonic seconds."""

    def __init__(
        self, state: InstanceState, ranks: Ranks, view: ClusterView, kv_memory: int | None = None
    ) -> None:
        self._state, self._ranks, self._view, self._kv_memory = state, ranks, view, kv_memory
        self._course: Course | None = None
        self._told: Budget | None = None
        self._told_at = 0.0
        """Or since when it can show, where that is later."""
        self._ready = False

    def first(self, now: float) -> Budget | None:
        """What an engine is told that is about to load; None: this node's memory is not known yet."""
        self._look(now)
        self._ready = False
        self._told = self._course.budget if self._course is not None else None
        return self._told

    def news(self, now: float) -> Budget | None:
        """What an engine that runs is to be told now; None: nothing that it does not know."""
        self._look(now)
        if self._course is None or self._state.phase not in _TOLD:
            return None
        if not self._ready:
            self._ready, self._told_at = True, now
        budget = self._fitting(self._course.budget)
        if self._told is not None and not differs(self._told, budget) and self._is_taken(self._told, now):
            return None
        said = self._state.beat.kv_limit_bytes
        self._told, self._told_at = _distinct(budget, self._told, said), now
        return self._told

    def _is_taken(self, told: Budget, now: float) -> bool:
        """What an engine says that it may hold counts: it may have missed a command, or have begun with what
        the other ranks had then. Only rank 0 says so, since it admits for all."""
        if self._state.rank != 0 or now - self._told_at < TAKEN_S:
            return True
        return self._state.beat.kv_limit_bytes == told.kv_bytes

    def _look(self, now: float) -> None:
        state, facts = self._state, self._view.facts()
        node = facts.get(f"node/{state.node}")
        if not isinstance(node, NodeFact):
            return
        own = state.instance
        engines = engines_on(state.node, facts, own)
        now_share = share(node, engines, (own.id, own.epoch), self._kv_memory)
        self._course = begin(now_share, now) if self._course is None else follow(self._course, now_share, now)
        state.kv_budget_bytes = max(1, self._course.budget.kv_bytes)  # none at all is known as well
        if (fitting := fitting_context(own, facts)) is not None:
            state.context = min(fitting, state.change.context or own.context)

    def _fitting(self, budget: Budget) -> Budget:
        """Rank 0 admits for all ranks: no more than fits each of them."""
        if self._state.rank != 0:
            return budget
        size = self._ranks.fitting(budget.kv_bytes)
        return Budget(kv_bytes=size, cache_bytes=budget.cache_bytes, short=budget.short)


def _distinct(budget: Budget, told: Budget | None, said: int) -> Budget:
    """As good as `budget`, but of another size than what was told before and what the engine says, so that
    beats show that it was taken."""
    if told is None or budget == told or budget.kv_bytes not in (told.kv_bytes, said):
        return budget
    sizes = range(max(budget.kv_bytes, 2), -1, -1)
    return replace(budget, kv_bytes=next(size for size in sizes if size not in (told.kv_bytes, said)))
