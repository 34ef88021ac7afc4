"""Which sequences a Runner has taken on, for whom, and which of them still wait for the engine."""

from collections.abc import Iterable
from typing import Never

from actors.kernel.reference import Ref
from actors.messages import RequestMessage
from bus.messages.base import SequenceId
from bus.messages.engine import Submit


class Roster:
    """The sequences of one instance that are not finished, and the Requests that they belong to."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._owners: dict[SequenceId, Ref[RequestMessage]] = {}
        self._queued: dict[SequenceId, Submit] = {}

    def __len__(self) -> int:
        return len(self._owners)

    def takes(self, count: int) -> bool:
        """Whether there is room for so many more."""
        return len(self._owners) + count <= self._bound

    def add(self, submits: Iterable[Submit], owner: Ref[RequestMessage]) -> None:
        """Take these on; they wait until they are drained."""
        for submit in submits:
            self._owners[submit.sequence] = owner
            self._queued[submit.sequence] = submit

    def drain(self) -> list[Submit]:
        """What waits, in order; from now on the engine has it."""
        queued, self._queued = list(self._queued.values()), {}
        return queued

    def owner(self, sequence: SequenceId) -> Ref[RequestMessage] | None:
        """Whom a sequence belongs to; None: it is finished, cancelled or unknown."""
        return self._owners.get(sequence)

    def waiting_owners(self) -> set[Ref[RequestMessage]]:
        """The Requests that have something waiting for the engine."""
        return {self._owners[sequence] for sequence in self._queued}

    def sequences(self) -> tuple[SequenceId, ...]:
        """All of them."""
        return tuple(self._owners)

    def all_owners(self) -> set[Ref[RequestMessage]]:
        """The Requests that have anything here."""
        return set(self._owners.values())

    def remove(self, sequence: SequenceId) -> None:
        """A sequence has ended."""
        self._owners.pop(sequence, None)
        self._queued.pop(sequence, None)

    def remove_owner(self, owner: Ref[Never]) -> tuple[SequenceId, ...]:
        """A Request has ended: returns those of its sequences that the engine still has."""
        theirs = [sequence for sequence, ref in self._owners.items() if ref == owner]
        with_engine = tuple(sequence for sequence in theirs if sequence not in self._queued)
        for sequence in theirs:
            self.remove(sequence)
        return with_engine

    def abandon(self, sequences: Iterable[SequenceId]) -> tuple[SequenceId, ...]:
        """Nobody wants these any more: returns those that the engine still has."""
        known = [sequence for sequence in sequences if sequence in self._owners]
        with_engine = tuple(sequence for sequence in known if sequence not in self._queued)
        for sequence in known:
            self.remove(sequence)
        return with_engine

    def take_queued(self) -> list[tuple[SequenceId, Ref[RequestMessage]]]:
        """What the engine does not have yet, to be refused."""
        queued = [(sequence, self._owners[sequence]) for sequence in self._queued]
        for sequence, _ in queued:
            self.remove(sequence)
        return queued

    def lose_engine(self) -> list[tuple[SequenceId, Ref[RequestMessage]]]:
        """The engine is gone: what it had is lost; what still waits stays."""
        lost = [(name, ref) for name, ref in self._owners.items() if name not in self._queued]
        for name, _ in lost:
            self.remove(name)
        return lost

    def clear(self) -> list[tuple[SequenceId, Ref[RequestMessage]]]:
        """All of them, to be refused."""
        everything, self._owners, self._queued = list(self._owners.items()), {}, {}
        return everything
