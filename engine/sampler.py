"""Chooses the tokens of all lanes, on the one rank that does."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import mlx.core as mx
from mlx_lm.models.cache import TokenBuffer

from engine.border import side_stream
from engine.guard import Guard
from engine.logprobs import Likely, most_likely
from engine.plan import Insertion, Plan, Result
from engine.sampling import BatchSampler, Row
from engine.steps import Entry


@dataclass(frozen=True, slots=True)
class Choice:
    """One token for each sequence of a lane; not computed yet."""

    uids: tuple[int, ...]
    tokens: mx.array
    """[rows]"""
    logprobs: mx.array
    """[rows, vocabulary]"""


class _Penalised:
    """A sequence with a logits processor, and its tokens so far."""

    def __init__(self, entry: Entry, guard: Guard) -> None:
        self.guard = guard
        self._tokens = TokenBuffer(entry.tokens[:-1])

    def __call__(self, token: int, logits: mx.array) -> mx.array:
        tokens: mx.array = self._tokens.update_and_fetch(mx.array([token]))
        return self.guard(tokens, logits)


class Sampler:
    """Knows how each sequence samples."""

    def __init__(self) -> None:
        self._sampler = BatchSampler()
        self._rows: dict[int, Row] = {}
        self._penalised: dict[int, _Penalised] = {}
        self._rivals: dict[int, int] = {}
        self._side = side_stream()
        """What is told beside the tokens must not wait for the next step, which may be under way."""

    def learn(self, insertions: Sequence[Insertion]) -> None:
        """Those who were put aside are known already."""
        for insertion in insertions:
            uid, entry = insertion.uid, insertion.entry
            if entry is None:
                continue
            self._rows[uid] = entry.row
            guard = Guard.of(entry)
            if guard is not None:
                self._penalised[uid] = _Penalised(entry, guard)
            if entry.logprobs is not None:
                self._rivals[uid] = entry.logprobs

    def forget(self, uids: Sequence[int]) -> None:
        for uid in uids:
            self._rows.pop(uid, None)
            self._penalised.pop(uid, None)
            self._rivals.pop(uid, None)

    def choose(self, logits: mx.array, last: Sequence[int], uids: Sequence[int]) -> Choice:
        """`logits`: [batch, vocabulary], row by row of `uids`, whose last tokens are `last`."""
        if any(uid in self._penalised for uid in uids):
            logits = self._penalise(logits, last, uids)
        logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        self._sampler.expect([self._rows[uid] for uid in uids])
        return Choice(tuple(uids), self._sampler(logprobs), logprobs)

    def read(self, choice: Choice, plan: Plan) -> Result:
        """What became of it, once it is computed: waits for that."""
        tokens = _integers(choice.tokens)
        return Result(
            plan.lane,
            plan.number,
            tuple(zip(choice.uids, tokens, strict=True)),
            self._likely(choice.logprobs, tokens, choice.uids),
            tuple(uid for uid in choice.uids if self._failed(uid)),
            choice.logprobs.shape[-1],
            done=not plan.slice_tokens,
        )

    def _failed(self, uid: int) -> bool:
        return uid in self._penalised and self._penalised[uid].guard.failure is not None

    def _penalise(self, logits: mx.array, last: Sequence[int], uids: Sequence[int]) -> mx.array:
        rows = []
        for place, (uid, token) in enumerate(zip(uids, last, strict=True)):
            row = logits[place : place + 1]
            penalised = self._penalised.get(uid)
            rows.append(penalised(token, row) if penalised else row)
        return mx.concatenate(rows, axis=0)

    def _likely(
        self, logprobs: mx.array, chosen: Sequence[int], uids: Sequence[int]
    ) -> tuple[tuple[int, Likely], ...]:
        asked = [place for place, uid in enumerate(uids) if uid in self._rivals]
        found = most_likely(
            [logprobs[place] for place in asked],
            [chosen[place] for place in asked],
            [self._rivals[uids[place]] for place in asked],
            self._side,
        )
        return tuple((uids[place], each) for place, each in zip(asked, found, strict=True))


def _integers(array: mx.array) -> list[int]:
    return cast("list[int]", array.tolist())
