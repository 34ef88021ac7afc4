"""Changes to one sequence's logits before its token is chosen: biases and penalties."""

from collections.abc import Mapping, Sequence

import mlx.core as mx

from engine.steps.decoding import Decoding


class Penalties:
    """A logits processor of mlx-lm's kind, for one sequence.

    The repetition penalty looks at all tokens so far, the prompt's too, and works on the sign-aware ratio
    (arXiv:1909.05858). Presence and frequency penalties count generated tokens only, and `logit_bias` is
    added, both as OpenAI's API has it.
    """

    def __init__(
        self, decoding: Decoding, tokens: Sequence[int], vocabulary: int, generated: int = 0
    ) -> None:
        """`tokens`: the prompt, and at its end those that were `generated` already."""
        self._decoding = decoding
        self._counts_wanted = bool(decoding.presence_penalty or decoding.frequency_penalty)
        self._repetition_wanted = decoding.repetition_penalty != 1.0
        self._counts = None
        if self._counts_wanted:
            self._counts = _histogram(tokens[len(tokens) - generated :], vocabulary)
        self._seen = None
        if self._repetition_wanted:
            self._seen = mx.zeros((vocabulary,), dtype=mx.bool_)
            self._seen[mx.array(list(set(tokens)))] = True
        self._bias = _dense(decoding.logit_bias, vocabulary)
        self._known_tokens = len(tokens)

    @staticmethod
    def wanted(decoding: Decoding) -> bool:
        """Whether these settings change anything."""
        return bool(
            decoding.logit_bias
            or decoding.presence_penalty
            or decoding.frequency_penalty
            or decoding.repetition_penalty != 1.0
        )

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        """`tokens`: all so far, [n]; `logits`: [1, vocabulary]."""
        if tokens.size > self._known_tokens:
            self._count(tokens[-1:])
        if self._seen is not None:
            penalty = self._decoding.repetition_penalty
            repeated = mx.where(logits < 0, logits * penalty, logits / penalty)
            logits = mx.where(self._seen, repeated, logits)
        if self._counts is not None:
            present = mx.minimum(self._counts, 1.0)
            logits = logits - self._decoding.presence_penalty * present
            logits = logits - self._decoding.frequency_penalty * self._counts
        if self._bias is not None:
            logits = logits + self._bias
        return logits

    def _count(self, token: mx.array) -> None:
        """The last step's token, which may not be computed yet."""
        if self._counts is not None:
            self._counts = self._counts.at[token].add(1.0)
        if self._seen is not None:
            self._seen[token] = True


def _histogram(tokens: Sequence[int], vocabulary: int) -> mx.array:
    counts = mx.zeros((vocabulary,))
    if not tokens:
        return counts
    return counts.at[mx.array(list(tokens))].add(1.0)


def _dense(bias: Mapping[int, float], vocabulary: int) -> mx.array | None:
    if not bias:
        return None
    dense = mx.zeros((vocabulary,))
    dense[mx.array(list(bias))] = mx.array(list(bias.values()))
    return dense
