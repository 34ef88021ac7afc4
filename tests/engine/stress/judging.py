"""What answers are held to: mlx-lm's own model, with its own caches, on the whole text at once."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, cast

import mlx.core as mx
import numpy
import pytest
from mlx_lm.models.cache import KVCache, QuantizedKVCache
from numpy.typing import NDArray

from engine.border import Network
from engine.memory import quantised
from engine.memory.caches import Cache
from tests.engine.stress.traffic import Asked, Traffic

CLOSE: Final = 2e-4
"""In log-probabilities: what float32 comes to when other shapes make it add in another order, five times."""
NEAR: Final = 2e-4
"""Keys or values of one head that are not further apart than this are the same ones, rounded otherwise."""


Take = Callable[[object, mx.array, mx.array], object]
"""What a cache does with keys and values."""


class Roundings:
    """Gives keys and values that differ by float32 rounding only the numbers that came first.

    A key computed in a batch differs from the same one computed alone in its last bits. Where one of its
    numbers stands at the edge between two of a quantised cache's steps, that makes a whole step, and all
    that follows differs by as much. With this in between, nothing but the rounding is forgiven.
    """

    def __init__(self) -> None:
        self._places: list[tuple[float, int]] = []
        """Of what came, on a line through its space; near ones are near each other there, too."""
        self._came: list[NDArray[numpy.float32]] = []

    def first(self, numbers: mx.array) -> mx.array:
        """Of [batch, heads, tokens, width]."""
        rows = numpy.array(numbers).reshape(-1, numbers.shape[-1])
        line = numpy.random.default_rng(0).normal(size=rows.shape[1])
        places = rows @ (line / numpy.linalg.norm(line))
        found = [self._first(row, place) for row, place in zip(rows, places.tolist(), strict=True)]
        return mx.array(numpy.stack(found).reshape(numbers.shape))

    def _first(self, row: NDArray[numpy.float32], place: float) -> NDArray[numpy.float32]:
        at = bisect_left(self._places, (place - NEAR, 0))
        while at < len(self._places) and self._places[at][0] <= place + NEAR:
            came = self._came[self._places[at][1]]
            if came.shape == row.shape and numpy.linalg.norm(came - row) <= NEAR:
                return came
            at += 1
        insort(self._places, (place, len(self._came)))
        self._came.append(row.copy())
        return row

    @contextmanager
    def forgiven(self) -> Iterator[None]:
        """In every quantised cache, ours and mlx-lm's."""
        with pytest.MonkeyPatch.context() as patch:
            for kind, name in ((quantised._Quantised, "_append"), (QuantizedKVCache, "update_and_fetch")):
                patch.setattr(kind, name, self._after(getattr(kind, name)))
            yield

    def _after(self, take: Take) -> Take:
        return lambda cache, keys, values: take(cache, self.first(keys), self.first(values))


class Reference:
    """A model that is not divided."""

    def __init__(self, network: Network, kv_bits: int | None) -> None:
        self._network = network
        self._kv_bits = kv_bits

    def logprobs(self, tokens: Sequence[int]) -> mx.array:
        """After each of these, [tokens, vocabulary]."""
        caches = [self._kept(cache) for cache in self._network.make_caches()]
        logits = self._network.forward(mx.array([list(tokens)]), caches)[0]
        return logits - mx.logsumexp(logits, axis=-1, keepdims=True)

    def _kept(self, cache: Cache) -> Cache:
        if self._kv_bits and type(cache) is KVCache:
            return cast(Cache, QuantizedKVCache(min(quantised.GROUP_SIZES), self._kv_bits))
        return cache


def check(traffic: Traffic, each: Asked, reference: Reference, close: float = CLOSE) -> float:
    """Every token that was told is the one that the reference would have, with its log-probability, as far as
    rounding can tell; returns how far the worst one was."""
    made, told = traffic.ids(each), traffic.logprobs(each)
    assert each.cancelled or len(made) == each.tokens, f"{each.sequence}: {len(made)} of {each.tokens} tokens"
    if not made:
        return 0.0
    text = (*each.prompt, *made)
    expected = reference.logprobs(text[:-1])
    own = mx.take_along_axis(expected, mx.array(text[1:])[:, None], axis=-1)[:, 0]
    wanted = cast("list[float]", own.tolist())
    if each.echo:
        assert told[:1] in ([None], []), f"{each.sequence}: something stands before its first token"
        told = told[1:]
    else:
        wanted = wanted[len(each.prompt) - 1 :]
    far = [abs(cast(float, mine) - its) for mine, its in zip(told, wanted, strict=False)]
    assert each.cancelled or len(far) == len(wanted), f"{each.sequence}: {len(far)} of {len(wanted)} scores"
    if each.greedy:
        behind = (mx.max(expected, axis=-1) - own)[len(each.prompt) - 1 :]
        far += cast("list[float]", behind.tolist())
    worst = max(far, default=0.0)
    assert worst <= close, (
        f"{each.sequence}: {worst:.1e} from the reference at {far.index(worst)} of {len(far)}"
    )
    return worst
