"""Names for actors: a restarted actor has a new ref, but keeps its name."""

from __future__ import annotations

import threading
from typing import Generic, Never, TypeVar, cast

from actors.kernel.reference import Ref

M = TypeVar("M")


class Name(str, Generic[M]):
    """The name of an actor that understands messages of type `M`.

    Invariant, so that who registers under it understands all that may be sent to it.
    """

    __slots__ = ()


class NobodyThere(LookupError):
    """No living actor has that name now; it may be between two lives."""


class Directory:
    """Which actor bears which name now. An actor that has ended bears none. For all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._refs: dict[str, Ref[Never]] = {}

    def register(self, name: Name[M], ref: Ref[M]) -> None:
        """Give a name, which the actor keeps until it ends or another gets it."""
        with self._lock:
            self._refs[name] = ref
        ref.ended.when_done(lambda: self._forget(name, ref))

    def find(self, name: Name[M]) -> Ref[M] | None:
        with self._lock:
            # `register` checked that the bearer of a Name[M] understands N.
            return cast("Ref[M] | None", self._refs.get(name))

    def get(self, name: Name[M]) -> Ref[M]:
        """Raises NobodyThere."""
        ref = self.find(name)
        if ref is None:
            raise NobodyThere(f"no actor is called {name!r} now")
        return ref

    def post(self, name: Name[M], message: M) -> bool:
        """Tell whoever has that name; False: nobody, or it does not keep up."""
        ref = self.find(name)
        return ref is not None and ref.post(message)

    def names(self) -> tuple[str, ...]:
        with self._lock:
            return tuple(self._refs)

    def _forget(self, name: str, ref: Ref[Never]) -> None:
        with self._lock:
            if self._refs.get(name) is ref:
                del self._refs[name]
