"""Makes one vector of the hidden states of a text, slice by slice."""

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy

from engine.steps.entry import Sliced
from models.pooling import Pooling, PoolingMode


@dataclass(slots=True)
class _Pool:
    pooling: Pooling
    state: mx.array | None = None
    """[width], float32: what the mode makes of the tokens so far; with MEAN, their sum."""
    tokens: int = 0

    def add(self, hidden: mx.array) -> None:
        """The next tokens' hidden states, [tokens, width]."""
        hidden = hidden.astype(mx.float32)
        match self.pooling.mode:
            case PoolingMode.CLS:
                self.state = hidden[0] if self.state is None else self.state
            case PoolingMode.LASTTOKEN:
                self.state = hidden[-1]
            case PoolingMode.MEAN:
                total = mx.sum(hidden, axis=0)
                self.state = total if self.state is None else self.state + total
        self.tokens += hidden.shape[0]
        mx.eval(self.state)

    def vector(self) -> bytes:
        assert self.state is not None
        vector = numpy.asarray(self.state, numpy.float32)
        if self.pooling.mode is PoolingMode.MEAN:
            vector = vector / numpy.float32(self.tokens)
        if self.pooling.normalize:
            length = numpy.sqrt(numpy.sum(vector * vector))
            vector = vector / length if length > 0 else vector
        return vector.astype("<f4").tobytes()


class Pools:
    """All texts whose embeddings are under way."""

    def __init__(self, pooling: Pooling) -> None:
        self._pooling = pooling
        self._pools: dict[int, _Pool] = {}

    def take(self, slices: Sequence[Sliced], normed: mx.array) -> tuple[tuple[int, bytes], ...]:
        """Hidden states [rows, tokens, width] of these slices; returns, by uid, the vectors that are
        complete with them."""
        complete = []
        for each in slices:
            if not each.entry.embed or each.end == each.begin:
                continue
            pool = self._pools.setdefault(each.uid, _Pool(self._pooling))
            pool.add(normed[each.row, : each.end - each.begin])
            if each.end == len(each.entry.tokens) - 1:
                complete.append((each.uid, self._pools.pop(each.uid).vector()))
        return tuple(complete)

    def forget(self, uids: Sequence[int]) -> None:
        for uid in uids:
            self._pools.pop(uid, None)
