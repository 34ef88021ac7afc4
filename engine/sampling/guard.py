"""Keeps one sequence's fault from reaching the batch that it is computed in."""

import logging

import mlx.core as mx

from engine.border import Processor
from engine.sampling.penalties import Penalties
from engine.steps.entry import Entry

logger = logging.getLogger(__name__)


class Guard:
    """A logits processor that does not raise: it notes what failed, and lets the logits pass as they are."""

    def __init__(self, processor: Processor) -> None:
        self._processor = processor
        self.failure: Exception | None = None

    @classmethod
    def of(cls, entry: Entry) -> "Guard | None":
        """For a sequence's penalties, if it has any."""
        if entry.penalties is None:
            return None
        return cls(Penalties(entry.penalties, entry.tokens, entry.vocabulary, entry.generated))

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        if self.failure is None:
            try:
                return self._processor(tokens, logits)
            except Exception as failure:
                logger.exception("a sequence's penalties failed")
                self.failure = failure
        return logits
