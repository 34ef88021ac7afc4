"""Keeps one sequence's fault from reaching the batch that it is computed in."""

import mlx.core as mx

from engine.border import Processor
from engine.penalties import Penalties
from engine.work import Job


class Guard:
    """A logits processor that does not raise: it notes what failed, and lets the logits pass as they are."""

    def __init__(self, processor: Processor) -> None:
        self._processor = processor
        self.failure: Exception | None = None

    def __repr__(self) -> str:
        return f"<Guard of {self._processor!r}, failure: {self.failure!r}>"

    @classmethod
    def of(cls, job: Job, vocabulary: int) -> "Guard | None":
        """For a job's penalties, if it has any."""
        if not Penalties.wanted(job.decoding):
            return None
        return cls(Penalties(job.decoding, job.tokens, vocabulary))

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        if self.failure is None:
            try:
                return self._processor(tokens, logits)
            except Exception as failure:
                self.failure = failure
        return logits
