"""What a step loop has to say, until it is time to say it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from bus.messages.base import SequenceId
from bus.messages.engine import Prefilled, Queued, Refused, Step
from bus.messages.generation import Delta, Refusal, RefusalCode

Post: TypeAlias = Callable[[Step | Refused], None]


AGAIN_S: Final = 1.0
"""How soon a sequence whose place is the same is told another reason: figures in it change all the time."""


@dataclass(frozen=True, slots=True)
class _Place:
    place: int
    reason: str
    told_s: float
    """On the monotonic clock."""

    def stands(self, other: "_Place | None") -> bool:
        """Whether nothing need be told that was not told by the other."""
        if other is None or other.place != self.place:
            return False
        return other.reason == self.reason or self.told_s - other.told_s < AGAIN_S


class News:
    """Said when the next steps have begun: the other ranks of this one's stage need not wait for that."""

    def __init__(self, post: Post) -> None:
        self.steps = 0
        self._post = post
        self._unsaid: list[Step | Refused] = []
        self._places: dict[SequenceId, _Place] = {}
        """What was last said of those that wait."""

    def step(self, deltas: tuple[Delta, ...] = (), prefilled: tuple[Prefilled, ...] = ()) -> None:
        self.steps += 1
        if deltas or prefilled:
            self._unsaid.append(Step(self.steps, deltas, prefilled))

    def line(self, waiting: list[tuple[SequenceId, str]], now_s: float) -> None:
        """Who waits, in order, and what for; said of those for whom that has changed. `now_s` on the
        monotonic clock."""
        told: dict[SequenceId, _Place] = {}
        changed = []
        for place, (sequence, reason) in enumerate(waiting):
            now, before = _Place(place, reason, now_s), self._places.get(sequence)
            if before is not None and now.stands(before):
                told[sequence] = before
            else:
                told[sequence] = now
                changed.append(Queued(sequence, place, reason))
        self._places = told
        if changed:
            self._unsaid.append(Step(self.steps, queued=tuple(changed)))

    def refuse(self, sequence: SequenceId, code: RefusalCode, message: str) -> None:
        self._unsaid.append(Refused(sequence, Refusal(code, message)))

    def fault(self, sequence: SequenceId, why: str = "") -> None:
        """A sequence ends for its own fault, not for that of the model."""
        self.refuse(
            sequence,
            RefusalCode.INVALID if why else RefusalCode.ENGINE_FAILED,
            why or "This answer failed inside the engine; the engine's log says where.",
        )

    def say(self) -> None:
        for message in self._unsaid:
            self._post(message)
        self._unsaid.clear()
