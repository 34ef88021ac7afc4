"""What was sent where a moment ago: facts of instances don't tell of it yet. Pure."""

from collections import Counter, deque
from collections.abc import Mapping
from typing import Final

from bus.messages.base import InstanceId

UNTOLD_S: Final = 0.75
"""An engine tells twice a second how much it has under way, and that takes a moment to be known here."""


class Recent:
    """Sequences by the instance that they were sent to, for as long as nobody else counts them."""

    def __init__(self) -> None:
        self._sent: deque[tuple[float, InstanceId, int]] = deque()

    def note(self, instance: InstanceId, now: float, sequences: int = 1) -> None:
        """So many go there; `now` is in seconds and never goes back."""
        self._sent.append((now, instance, sequences))

    def counts(self, now: float) -> Mapping[InstanceId, int]:
        """How many went where within UNTOLD_S; 0 for all others."""
        while self._sent and self._sent[0][0] <= now - UNTOLD_S:
            self._sent.popleft()
        counts: Counter[InstanceId] = Counter()
        for _, instance, sequences in self._sent:
            counts[instance] += sequences
        return counts
