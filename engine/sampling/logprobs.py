"""The most likely tokens at a position."""

from collections.abc import Sequence
from typing import cast

import mlx.core as mx

from engine.steps.likely import Likely


def most_likely(
    logprobs: Sequence[mx.array], tokens: Sequence[int], counts: Sequence[int], stream: mx.Stream
) -> list[Likely]:
    """For each row [vocabulary]: its chosen token's log-probability and its `count` most likely tokens.

    They are computed on `stream`: on the one that the next step runs on already, they would wait for it.
    """
    if not tokens:
        return []
    with mx.stream(stream):
        rows = mx.stack(list(logprobs)).astype(mx.float32)
        chosen = mx.take_along_axis(rows, mx.array(list(tokens))[:, None], axis=-1)
        most = min(max(counts), rows.shape[-1])
        if not most:
            return [Likely(value) for (value,) in _floats(chosen)]
        if most < rows.shape[-1]:
            ids = mx.argpartition(-rows, kth=most - 1, axis=-1)[:, :most]
        else:
            ids = mx.broadcast_to(mx.arange(most), rows.shape)
        values = mx.take_along_axis(rows, ids, axis=-1)
        mx.eval(chosen, ids, values)
    return [
        Likely(value, _ranked(own_ids, own_values)[:count])
        for (value,), own_ids, own_values, count in zip(
            _floats(chosen), _integers(ids), _floats(values), counts, strict=True
        )
    ]


def _ranked(ids: list[int], values: list[float]) -> tuple[tuple[int, float], ...]:
    return tuple(sorted(zip(ids, values, strict=True), key=lambda pair: (-pair[1], pair[0])))


def _floats(array: mx.array) -> list[list[float]]:
    return cast("list[list[float]]", array.tolist())


def _integers(array: mx.array) -> list[list[int]]:
    return cast("list[list[int]]", array.tolist())
