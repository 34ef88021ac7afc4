"""A sequence in the step loop's hands, from its first slice to its last token."""

import secrets
from dataclasses import dataclass, field, replace

import msgspec

from engine.memory.admission import Holding
from engine.sampling.penalties import Penalties
from engine.scheduling.scheduler import Rank
from engine.scheduling.track import Track
from engine.steps.entry import Entry
from engine.steps.likely import Likely
from engine.steps.row import Row
from engine.steps.stepper import Kept
from engine.text.sequence import Sequence
from engine.work import Job


@dataclass(slots=True, eq=False)
class Member:
    """One that is computed, or that waits: to begin, or to go on after it gave way to others."""

    sequence: Sequence
    entry: Entry
    rank: Rank
    """Its place in line."""
    number: int
    """Counted up: the higher, the younger."""
    lane: Track | None = None
    kept: Kept | None = None
    """What is computed of its prompt, while it is put aside."""
    put_off: bool = False
    """It gave way to others when memory was short, and has not begun again."""
    made: list[int] = field(default_factory=list)
    """Tokens that were chosen since it has this entry."""
    prompt: list[Likely | None] = field(default_factory=lambda: [None])
    """What was likely at each place of its prompt so far, where that is wanted; the first has nothing."""

    @property
    def job(self) -> Job:
        return self.sequence.job

    @property
    def tokens(self) -> list[int]:
        """All of it so far."""
        return self.entry.tokens + self.made

    @property
    def left(self) -> int:
        """How many tokens it can still get."""
        return self.job.max_tokens - self.sequence.generated

    @property
    def guessable(self) -> bool:
        """Its next tokens hang on nothing but the model."""
        return self.entry.answers and not self.entry.constrained and self.entry.penalties is None

    @property
    def holding(self) -> Holding:
        """The memory that it takes."""
        job = self.job
        return Holding(
            len(self.entry.tokens) + len(self.made), job.prompt_tokens + job.max_tokens, self.number
        )

    def renewed(self) -> None:
        """It begins again from its tokens."""
        entry, tokens = self.entry, self.tokens
        generated = entry.generated + len(self.made)
        self.entry = msgspec.structs.replace(
            entry,
            tokens=tokens,
            generated=generated,
            row=replace(entry.row, drawn=generated),
            prompt_logprobs=entry.prompt_logprobs and not self.sequence.generated,
        )
        self.lane = self.kept = None
        self.made = []
        self.prompt = [None]


def entry_of(job: Job, vocabulary: int, marks: bool) -> Entry:
    """What those who compute need to know of a job. `marks`: its slices end at its marks."""
    scores = job.prompt_logprobs and not job.resumed
    return Entry(
        [*job.tokens, 0] if job.embed else job.tokens,
        Row.of(job.decoding, secrets.randbits(64), vocabulary, job.resumed),
        replace(job.decoding, seed=None) if Penalties.wanted(job.decoding) else None,
        job.resumed,
        job.logprobs,
        vocabulary,
        job.format,
        job.tools,
        job.reasoning,
        job.reasoning_tokens,
        job.parsed,
        job.marks if marks else (),
        scores,
        job.embed,
        answers=not job.embed and job.max_tokens > job.resumed,
        min_tokens=0 if job.ignore_eos else job.min_tokens,
    )
