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
    after_join: bool
    ahead_s: float
    """What was spent on it before."""


@dataclass(slots=True, eq=False)
class Track:
    """Times are on the monotonic clock."""

    batch: Batch
    goes_ahead: bool
    """As in Stepper."""
    guess: Guess | None = None
    """What the last step was begun with, if guesses are weighed."""
    took_s: float = 0.0
    """What the last step took until its tokens were chosen."""
    _since_s: float = 0.0
    """When its next step could begin: at the end of the last one, if there was no rest between."""
    _ahead_s: float = 0.0
    """What was spent on its next step before."""
    _chosen_s: float | None = None
    """When the tokens of the oldest step under way were chosen."""
    _just_joined: bool = False
    """Sequences joined in the last step."""
    _begun: deque[_Begun] = field(default_factory=deque)

    def wake(self) -> None:
        """There is something to compute after a rest."""
        self._since_s, self._ahead_s = time.monotonic(), 0.0

    def rest(self) -> None:
        self._just_joined = False

    @property
    def joins_ahead(self) -> bool:
        """Between the next step's tokens and those after them, not only its slice is computed: sequences that
        join in it have their caches moved."""
        return self.goes_ahead and self.batch.joining > 0

    def begin(self, granted: int, guess: Guess | None = None) -> None:
        """Begin a step that may prefill `granted` tokens."""
        self._begun.append(_Begun(self._since_s, granted, self._just_joined, self._ahead_s))
        self._just_joined = self.batch.joining > 0
        self.batch.begin(granted, *((guess.guesses, guess.ahead) if guess else ()))
        self.guess = guess
        self._since_s, self._ahead_s = time.monotonic(), 0.0

    def finish(self, stepped: Stepped, pace: Pace) -> tuple[Outcome, Pace]:
        """Take in news of the oldest step, and what it cost as far as it is done."""
        outcome = self.batch.finish(stepped)
        begun = self._begun[0]
        now_s = self._since_s = time.monotonic()
        if stepped.decoded and outcome.decodes:
            self._chosen_s = now_s
            self.took_s = begun.ahead_s + now_s - begun.since_s
            pace = self._learned_of_tokens(pace, begun, outcome)
        if outcome.done:
            if outcome.sliced:
                took_s = now_s - (begun.since_s if self._chosen_s is None else self._chosen_s)
                slice_s = took_s if stepped.slice_s is None else stepped.slice_s
                self._ahead_s = took_s - slice_s
                pace = pace.after_slice(slice_s, outcome.sliced, outcome.position, begun.granted)
            self._begun.popleft()
            self._chosen_s = None
        return outcome, pace

    def _learned_of_tokens(self, pace: Pace, begun: _Begun, outcome: Outcome) -> Pace:
        """Where steps begin ahead, one holds what it cost to let sequences join in the step before."""
        if outcome.guessed or outcome.joined:
            return pace
        if begun.after_join and self.goes_ahead:
            return pace.after_join(self.took_s)
        return pace.after_decode(self.took_s)
