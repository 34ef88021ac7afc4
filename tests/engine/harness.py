"""A step loop that a test turns by hand, with all that it said."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from queue import SimpleQueue

from bus.messages.base import SequenceId
from bus.messages.engine import Budget, Refused, Step, Submit
from bus.messages.generation import Delta, Format, Prompt, Sampling, Stopping, TextPrompt
from engine.constraints.grammars import Grammars
from engine.drafting.drafter import Drafter
from engine.gauges import Gauges
from engine.intake import Intake
from engine.life import sequence_of
from engine.loader import Loaded
from engine.prefixes.index import Index
from engine.prefixes.layers import is_sliceable
from engine.ranks.conductor import Conductor, alone
from engine.ranks.rank import Equipment
from engine.regression import Line
from engine.scheduling.batch import Batch
from engine.scheduling.guesser import Guesser
from engine.scheduling.keeper import Keeper
from engine.scheduling.loop import StepLoop
from engine.scheduling.pace import SMALLEST, Pace
from engine.scheduling.warmup import warm_up
from engine.text.sequence import Sequence
from engine.threads import Threads
from engine.work import Drop, Job, Work

GREEDY = Sampling(temperature=0.0)
SIXTEEN = Stopping(max_tokens=16, ignore_eos=True)


@dataclass(frozen=True, slots=True)
class Steady(Pace):
    """Slices of this size, however long steps take."""

    gap_s: float = 0.06
    per_token: Line = field(default_factory=lambda: Line().seen(100.0, 0.001, 1.0))
    tokens: int = SMALLEST

    def after_slice(self, took_s: float, tokens: int, position: int, granted: int) -> Pace:
        return self

    def slice(self, position: int, crowd: float | None, joining: bool = False) -> int:
        return self.tokens


class Harness:
    """Everything of an engine but its process and its link."""

    def __init__(
        self,
        loaded: Loaded,
        *,
        max_running: int = 64,
        gap_s: float = 0.06,
        prefixes: bool = False,
        speculate: bool = False,
        budget: Budget | None = None,
        guesser: Guesser | None = None,
        sequence_of: Callable[[Job, Loaded], Sequence] = sequence_of,
        stepper_of: Callable[[Gauges, Equipment], Conductor] | None = None,
        pace: Pace | None = None,
    ) -> None:
        """`stepper_of`: an instance of several ranks; None: of one. `pace`: None: as it is measured."""
        self.gauges = Gauges()
        self.inbox: SimpleQueue[Work] = SimpleQueue()
        self.said: list[Step | Refused] = []
        grammars = Grammars(loaded.tokenizer)
        equipment = Equipment(grammars)
        stepper = stepper_of(self.gauges, equipment) if stepper_of else None
        self.stepper = stepper = stepper or alone(loaded.stage, self.gauges, equipment)
        self.batches = [Batch(stepper, lane) for lane in range(stepper.lanes)]
        self.batch = self.batches[0]
        threads = Threads()
        warm = warm_up(stepper, self.batch, Pace(gap_s), loaded.context, len(loaded.tokenizer), threads)
        self.vocabulary = warm.vocabulary
        sliceable = is_sliceable(loaded.stage.all_fresh())
        self.footprint = footprint = warm.footprint
        index = Index(sliceable, footprint.token_bytes, footprint.state_bytes)
        self.keeper = Keeper(stepper, footprint, index if prefixes else None, budget)
        self.guesser = guesser or Guesser(Drafter() if speculate else None)
        self.intake = Intake(loaded.tokenizer, loaded.context, warm.vocabulary, grammars=grammars)
        self.loop = StepLoop(
            stepper=stepper,
            batches=self.batches,
            sequence_of=lambda job: sequence_of(job, loaded),
            vocabulary=warm.vocabulary,
            inbox=self.inbox,
            post=self.said.append,
            gauges=self.gauges,
            pace=pace or warm.pace,
            max_running=max_running,
            threads=threads,
            keeper=self.keeper,
            guesser=self.guesser,
        )
        self._numbers = iter(range(1 << 30))

    def submit(
        self,
        prompt: Prompt | str,
        sampling: Sampling = GREEDY,
        stopping: Stopping = SIXTEEN,
        logprobs: int | None = None,
        format: Format | None = None,
    ) -> SequenceId:
        sequence = SequenceId(f"sequence-{next(self._numbers)}")
        prompt = TextPrompt(prompt) if isinstance(prompt, str) else prompt
        self.inbox.put(
            self.intake.accept(Submit(sequence, prompt, sampling, stopping, logprobs, format=format))
        )
        return sequence

    def cancel(self, *sequences: SequenceId) -> None:
        self.inbox.put(Drop(frozenset(sequences)))

    def turn(self, times: int = 1) -> None:
        """Whole steps: one that has told its tokens goes on with its slice in the loop's next turn."""
        for _ in range(times):
            self.loop.turn()
            while any(batch.under_way for batch in self.batches):
                self.loop.turn()

    def finish(self, *sequences: SequenceId) -> None:
        """Turn until these have ended."""
        while not all(self.over(sequence) for sequence in sequences):
            self.turn()

    def run(self, *sequences: SequenceId) -> list[str]:
        """Turn until these have ended; returns their texts."""
        self.finish(*sequences)
        return [self.text(sequence) for sequence in sequences]

    def deltas(self, sequence: SequenceId) -> list[Delta]:
        return [delta for step in self._steps() for delta in step.deltas if delta.sequence == sequence]

    def text(self, sequence: SequenceId) -> str:
        return "".join(delta.text for delta in self.deltas(sequence))

    def refusal(self, sequence: SequenceId) -> Refused | None:
        return next((each for each in self._refusals() if each.sequence == sequence), None)

    def over(self, sequence: SequenceId) -> bool:
        return self.refusal(sequence) is not None or any(each.finish for each in self.deltas(sequence))

    def prefilled(self, sequence: SequenceId) -> list[tuple[int, int]]:
        return [
            (part.done, part.total)
            for step in self._steps()
            for part in step.prefilled
            if part.sequence == sequence
        ]

    def _steps(self) -> Iterable[Step]:
        return (each for each in self.said if isinstance(each, Step))

    def _refusals(self) -> Iterable[Refused]:
        return (each for each in self.said if isinstance(each, Refused))
