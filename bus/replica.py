"""A reader's copy of a publisher's facts: sees gaps, and mends them with what the publisher answers.

No sockets and no clocks: messages in, changes out, and `behind` while there is something to ask for.
"""

from typing import TypeAlias

from bus.messages.facts import Fact, Head, Since, Snapshot, Update, Updates

Change: TypeAlias = tuple[str, Fact | None]
"""A key and its new fact; None: withdrawn."""


class Replica:
    """Equal to the publisher's facts as of update `number`, once it is no longer `behind`."""

    def __init__(self) -> None:
        self.session = ""
        self.number = 0
        self.behind = True
        self._facts: dict[str, Fact] = {}

    @property
    def facts(self) -> dict[str, Fact]:
        return dict(self._facts)

    def since(self) -> Since:
        """The question that brings what is missing."""
        return Since(self.session, self.number)

    def hear(self, message: Update | Head | Updates | Snapshot) -> tuple[Change, ...]:
        """Take a message in, in whatever order they come, and return what changed by it."""
        match message:
            case Head(session=session, number=number):
                self.behind |= session != self.session or number > self.number
                return ()
            case Update():
                return self._update(message)
            case Updates(session=session, updates=updates):
                return self._mend(session, updates)
            case Snapshot():
                return self._restore(message)

    def _update(self, update: Update) -> tuple[Change, ...]:
        if update.session != self.session or update.number > self.number + 1:
            self.behind = True
            return ()
        if update.number <= self.number:
            return ()
        self.number = update.number
        return self._set(update.key, update.fact)

    def _mend(self, session: str, updates: tuple[Update, ...]) -> tuple[Change, ...]:
        # The publisher's own word on how far it is: what it said since comes by itself, or shows as a gap.
        self.behind = session != self.session
        return tuple(change for update in updates for change in self._update(update))

    def _restore(self, snapshot: Snapshot) -> tuple[Change, ...]:
        self.behind = False
        if snapshot.session == self.session and snapshot.number < self.number:
            return ()
        self.session, self.number = snapshot.session, snapshot.number
        withdrawn = [key for key in self._facts if key not in snapshot.facts]
        changes = [change for key in withdrawn for change in self._set(key, None)]
        changes += [change for key, fact in snapshot.facts.items() for change in self._set(key, fact)]
        return tuple(changes)

    def _set(self, key: str, fact: Fact | None) -> tuple[Change, ...]:
        if self._facts.get(key) == fact:
            return ()
        if fact is None:
            del self._facts[key]
        else:
            self._facts[key] = fact
        return ((key, fact),)
