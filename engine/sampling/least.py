"""Keeps answers from ending before they have as many tokens as were asked for."""

from collections.abc import Iterable, Sequence

import mlx.core as mx


class Least:
    """How many tokens each sequence has to get before one that ends it may be chosen."""

    def __init__(self, ends: Iterable[int]) -> None:
        """`ends`: the tokens that end an answer."""
        self._ends = tuple(sorted(ends))
        self._left: dict[int, int] = {}

    def learn(self, uid: int, left: int) -> None:
        """The sequence has to get so many more."""
        if left > 0 and self._ends:
            self._left[uid] = left

    def forget(self, uid: int) -> None:
        self._left.pop(uid, None)

    def take(self, uid: int) -> None:
        """It got one."""
        if uid in self._left:
            self._left[uid] -= 1
            if not self._left[uid]:
                del self._left[uid]

    def apply(self, logits: mx.array, uids: Sequence[int], width: int = 1) -> mx.array:
        """Logits [rows times width, vocabulary] of each sequence's next `width` places, without the end where
        it is too early for it. Where a format leaves nothing but the end, that stays: it goes before."""
        early = [self._left.get(uid, 0) > place for uid in uids for place in range(width)]
        if not any(early):
            return logits
        rows, vocabulary = logits.shape
        ends = mx.array([end for end in self._ends if end < vocabulary])
        nothing = mx.array(-float("inf"), dtype=logits.dtype)
        endless = mx.put_along_axis(logits, mx.broadcast_to(ends, (rows, len(ends))), nothing, axis=-1)
        goes_on = mx.max(endless, axis=-1, keepdims=True) > nothing
        return mx.where(mx.array(early)[:, None] & goes_on, endless, logits)
