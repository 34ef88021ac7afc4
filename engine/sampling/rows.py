"""Chooses the next token of every sequence of a batch in one go, each by its own settings and seed."""

import math
from collections.abc import Sequence

import mlx.core as mx

from engine.steps.row import Row


class BatchSampler:
    """Samples from log-probabilities [batch, vocabulary], a row of settings to each of theirs.

    Filters apply to the model's own distribution and temperature after them, as in mlx-lm and llama.cpp:
    a token stays if it is among the `top_k` most likely, in the smallest set that holds `top_p`, and at
    least `min_p` times as likely as the first. One draw per row picks from what is left, by inverse
    transform sampling. Every operation keeps to its row, so a batch's other rows change nothing.
    """

    def __init__(self) -> None:
        self._settings = _Settings(())

    def __call__(self, logprobs: mx.array, rows: Sequence[Row]) -> mx.array:
        """Tokens [batch], not computed yet. Counts a draw of each row, but where all take the most likely."""
        if len(rows) != logprobs.shape[0]:
            raise RuntimeError(f"the batch has {logprobs.shape[0]} rows where {len(rows)} were expected")
        if all(row.greedy for row in rows):
            return mx.argmax(logprobs, axis=-1)
        if not self._settings.belong_to(rows):
            self._settings = _Settings(tuple(rows))
        return self._settings.sample(logprobs)


class _Settings:
    """The settings of a batch's rows as arrays, made once for as long as the batch stays the same."""

    def __init__(self, rows: tuple[Row, ...]) -> None:
        self._rows = rows
        self._greedy = _column([row.greedy for row in rows])
        self._any_greedy = any(row.greedy for row in rows)
        self._coldness = _column([1.0 if row.greedy else 1.0 / row.temperature for row in rows])
        self._min_p = self._min_p_column()
        self._sorted = [
            index for index, row in enumerate(rows) if not row.greedy and (row.top_k or row.top_p < 1.0)
        ]
        chosen = [rows[index] for index in self._sorted]
        self._top_p = _column([row.top_p for row in chosen])
        self._top_k = _column([row.top_k for row in chosen])

    def belong_to(self, rows: Sequence[Row]) -> bool:
        return len(rows) == len(self._rows) and all(
            mine is its for mine, its in zip(self._rows, rows, strict=True)
        )

    def sample(self, logprobs: mx.array) -> mx.array:
        original = logprobs = logprobs.astype(mx.float32)
        floor = self._floor(logprobs)
        if floor is not None:
            logprobs = mx.where(logprobs < floor, -mx.inf, logprobs)
        top = mx.max(original, axis=-1, keepdims=True)
        mass = mx.cumsum(mx.exp((logprobs - top) * self._coldness), axis=-1)
        draws = _column([row.draw() for row in self._rows])
        tokens = mx.sum(mass <= draws * mass[:, -1:], axis=-1).astype(mx.uint32)
        if self._any_greedy:
            tokens = mx.where(self._greedy[:, 0], mx.argmax(original, axis=-1), tokens)
        return tokens

    def _floor(self, logprobs: mx.array) -> mx.array | None:
        """The log-probability [batch, 1] below which a token is out, or None where nothing is."""
        floor = None
        if self._min_p is not None:
            floor = mx.max(logprobs, axis=-1, keepdims=True) + self._min_p
        if self._sorted:
            ranked = self._ranked_floor(logprobs)
            floor = ranked if floor is None else mx.maximum(floor, ranked)
        return floor

    def _ranked_floor(self, logprobs: mx.array) -> mx.array:
        """What top_p and top_k ask for. Only the rows that need it are sorted: it is the costly part."""
        everyone = len(self._sorted) == len(self._rows)
        rows = logprobs if everyone else logprobs[mx.array(self._sorted)]
        ascending = mx.sort(rows, axis=-1)
        above = mx.cumsum(mx.exp(ascending), axis=-1, reverse=True, inclusive=False)
        total = above[:, :1] + mx.exp(ascending[:, :1])
        vocabulary = logprobs.shape[-1]
        dropped = mx.sum((above >= self._top_p * total) & (self._top_p < 1.0), axis=-1, keepdims=True)
        dropped = mx.minimum(dropped, vocabulary - 1)
        dropped = mx.maximum(dropped, mx.where(self._top_k > 0, vocabulary - self._top_k, 0))
        floor = mx.take_along_axis(ascending, dropped, axis=-1)
        if everyone:
            return floor
        spread = mx.full((logprobs.shape[0], 1), -mx.inf)
        spread[mx.array(self._sorted)] = floor
        return spread

    def _min_p_column(self) -> mx.array | None:
        if not any(row.min_p > 0.0 for row in self._rows):
            return None
        return _column([math.log(row.min_p) if row.min_p > 0.0 else -math.inf for row in self._rows])


def _column(values: Sequence[float | bool]) -> mx.array:
    return mx.array(list(values))[:, None] if values else mx.zeros((0, 1))
