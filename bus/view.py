"""The latest facts of everybody, for whoever wants to see them or hear of their changes."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Self
from weakref import WeakSet

from bus.messages.base import NodeId
from bus.messages.facts import Fact
from bus.replica import Change

logger = logging.getLogger(__name__)


class Changes(AsyncIterator[Change]):
    """Every change since it was made; while nobody reads, only the latest value of each key is kept."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[Fact | None, bool]] = {}
        self._arrived = asyncio.Event()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        key = next(iter(self._waiting))
        fact, _ = self._waiting.pop(key)
        return key, fact

    def put(self, key: str, fact: Fact | None, *, was_known: bool) -> None:
        """`was_known`: the key had a value before this change."""
        if key in self._waiting:
            was_known = self._waiting[key][1]
        if fact is None and not was_known:
            # It came and went unseen. Keeping such keys would let a reader that is stuck cost ever more.
            self._waiting.pop(key, None)
            return
        self._waiting[key] = (fact, was_known)
        self._arrived.set()


class ClusterView:
    """Holds what readers of facts hear, by who says it. To be used on the loop's thread, but for `facts`.

    Where several nodes publish one key, what was heard last shows, and after its withdrawal the one before.
    """

    def __init__(self) -> None:
        self._facts: dict[str, Fact] = {}
        self._said: dict[str, dict[NodeId, Fact]] = {}
        """For each key what each owner says of it, latest last."""
        self._changes: WeakSet[Changes] = WeakSet()
        self._listeners: list[Callable[[str, Fact | None], None]] = []

    def __repr__(self) -> str:
        return f"<ClusterView of {len(self._facts)} facts, {len(self._changes)} readers>"

    def facts(self) -> dict[str, Fact]:
        """All facts by key; from any thread."""
        return dict(self._facts)

    def owner(self, key: str) -> NodeId | None:
        """Whose fact shows; None: there is none."""
        return next(reversed(self._said.get(key, {})), None)

    def changes(self) -> Changes:
        """Every change from now on; None: withdrawn. A slow reader skips to the latest value of a key."""
        changes = Changes()
        self._changes.add(changes)
        return changes

    def listen(self, listener: Callable[[str, Fact | None], None]) -> Callable[[], None]:
        """Call the listener for each change, on the loop, until the returned function is called."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def apply(self, owner: NodeId, changes: Iterable[Change]) -> None:
        """Take in what was heard of a publisher."""
        for key, fact in changes:
            said = self._said.setdefault(key, {})
            said.pop(owner, None)
            if fact is not None:
                said[owner] = fact
            elif not said:
                del self._said[key]
            self._show(key, next(reversed(said.values()), None))

    def forget(self, owner: NodeId) -> None:
        """Withdraw all that this publisher said: it is gone."""
        keys = [key for key, said in self._said.items() if owner in said]
        self.apply(owner, [(key, None) for key in keys])

    def _show(self, key: str, fact: Fact | None) -> None:
        before = self._facts.get(key)
        if before == fact:
            return
        if fact is None:
            del self._facts[key]
        else:
            self._facts[key] = fact
        for waiting in self._changes:
            waiting.put(key, fact, was_known=before is not None)
        self._tell(key, fact)

    def _tell(self, key: str, fact: Fact | None) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(key, fact)
            except Exception:
                logger.exception("A listener failed on a change of %s", key)
