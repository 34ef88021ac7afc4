"""A lane as the step loop drives it: its batch, its steps under way, and what they teach about the pace."""

import time
from collections import deque
from dataclasses import dataclass, field

from engine.scheduling.batch import Batch, Outcome
from engine.scheduling.guesser import Guess
from engine.scheduling.pace import Pace
from engine.steps.stepper import Stepped


@dataclass(frozen=True, slots=True)
class _Begun:
    """A step under way."""

    since_s: float
    granted: int
    decoding: bool
    after_join: bool


@dataclass(slots=True, eq=False)
class Track:
    """Times are on the monotonic clock."""

    batch: Batch
    just_joined: bool = False
    """Sequences joined in the last step."""
    guess: Guess | None = None
    """What the last step was begun with, if guesses are weighed."""
    took_s: float = 0.0
    """What the last step took until its tokens were chosen."""
    _since_s: float = 0.0
    """When its next step could begin: at the end of the last one, if there was no rest between."""
    _begun: deque[_Begun] = field(default_factory=deque)

    def wake(self) -> None:
        """There is something to compute after a rest."""
        self._since_s = time.monotonic()

    def rest(self) -> None:
        self.just_joined = False

    def begin(self, granted: int, decoding: bool, guess: Guess | None = None) -> None:
        """Begin a step that may prefill `granted` tokens; `decoding`: somebody waits for tokens meanwhile."""
        self._begun.append(_Begun(self._since_s, granted, decoding, self.just_joined))
        self.just_joined = self.batch.joining > 0
        self.batch.begin(granted, *((guess.guesses, guess.ahead) if guess else ()))
        self.guess = guess
        self._since_s = time.monotonic()

    def finish(self, stepped: Stepped, pace: Pace) -> tuple[Outcome, Pace]:
        """Take in news of the oldest step, and what it cost if it is done."""
        outcome = self.batch.finish(stepped)
        self._since_s = time.monotonic()
        self.took_s = self._since_s - self._begun[0].since_s
        if not outcome.done:
            return outcome, pace
        return outcome, _learned(pace, self._begun.popleft(), outcome, self._since_s)


def _learned(pace: Pace, begun: _Begun, outcome: Outcome, now_s: float) -> Pace:
    took = now_s - begun.since_s
    if outcome.sliced:
        if begun.after_join:
            return pace
        return pace.after_slice(took, outcome.sliced, outcome.position, begun.granted, begun.decoding)
    if begun.after_join:
        return pace.after_join(took)
    return pace if outcome.joined or outcome.guessed else pace.after_decode(took)
