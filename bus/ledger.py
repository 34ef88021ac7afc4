"""What a publisher has said: its facts, the number of the last change, and the latest changes themselves.

After the Clone pattern of the ZeroMQ guide (chapter 5), with numbers that have no holes, so that a reader
can tell what it missed. No sockets and no clocks.
"""

from collections import deque

from bus.messages.facts import Fact, Head, Since, Snapshot, Update, Updates


class Ledger:
    """One publisher's facts in one session of its life; the last `kept` updates can be repeated."""

    def __init__(self, session: str, kept: int) -> None:
        self.session = session
        self.number = 0
        self._facts: dict[str, Fact] = {}
        self._kept: deque[Update] = deque(maxlen=kept)

    def set(self, key: str, fact: Fact | None) -> Update | None:
        """The update to be published; None: nothing has changed by it."""
        if self._facts.get(key) == fact:
            return None
        if fact is None:
            del self._facts[key]
        else:
            self._facts[key] = fact
        self.number += 1
        update = Update(self.session, self.number, key, fact)
        self._kept.append(update)
        return update

    def head(self) -> Head:
        return Head(self.session, self.number)

    def answer(self, since: Since) -> Updates | Snapshot:
        """What the reader missed, or everything where that is not known any more."""
        missed = self.number - since.number
        if since.session != self.session or not 0 <= missed <= len(self._kept):
            return Snapshot(self.session, self.number, dict(self._facts))
        return Updates(self.session, tuple(self._kept)[len(self._kept) - missed :])
