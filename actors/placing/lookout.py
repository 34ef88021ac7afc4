"""Notices changes of facts that matter to where models run, and tells the Placement once."""

import asyncio
from collections.abc import Callable
from typing import Final, TypeAlias

from bus.messages.facts import Fact, InstanceFact, NodeFact, RankFact
from bus.view import ClusterView

Digest: TypeAlias = tuple[object, ...]
"""What of a fact matters here."""

_MATTER: Final = ("rank/", "instance/", "declared/", "coordinator/", "wish/", "model/", "node/")


class Lookout:
    """`changed` is called on the loop for the first change after each `rest`; further ones add nothing."""

    def __init__(
        self, view: ClusterView, loop: asyncio.AbstractEventLoop, changed: Callable[[], object]
    ) -> None:
        """From any thread; watches from the loop's next turn on."""
        self._view, self._loop, self._changed = view, loop, changed
        self._told = False
        self._digests: dict[str, Digest] = {}
        self._unlisten: Callable[[], None] | None = None
        loop.call_soon_threadsafe(self._begin)

    def rest(self) -> None:
        """The change is being looked at: what comes from now on is news. From any thread."""
        self._told = False

    def close(self) -> None:
        """Watch no more. From any thread."""
        self._loop.call_soon_threadsafe(self._end)

    def _begin(self) -> None:
        self._unlisten = self._view.listen(self._hear)
        self._tell()

    def _end(self) -> None:
        if self._unlisten is not None:
            self._unlisten()
            self._unlisten = None

    def _hear(self, key: str, fact: Fact | None) -> None:
        if key.startswith(_MATTER) and self._is_news(key, fact):
            self._tell()

    def _is_news(self, key: str, fact: Fact | None) -> bool:
        """Nodes, ranks and instances tell how busy they are again and again: that changes no placement."""
        if not key.startswith(("node/", "rank/", "instance/")):
            return True
        digest = _digest(fact)
        if self._digests.get(key) == digest:
            return False
        if digest is None:
            self._digests.pop(key, None)
        else:
            self._digests[key] = digest
        return True

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            self._changed()


def _digest(fact: Fact | None) -> Digest | None:
    match fact:
        case NodeFact():
            return (fact.started_at, fact.leaving, fact.memory.pressure)
        case RankFact() | InstanceFact():
            return (fact.epoch, fact.phase, fact.nodes if isinstance(fact, InstanceFact) else fact.node)
        case _:
            return None
