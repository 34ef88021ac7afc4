"""Chooses the tokens of all lanes, on the one rank that does."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import mlx.core as mx
from mlx_lm.models.cache import TokenBuffer

from engine.border import side_stream
from engine.constraints.constraint import Constraint
from engine.constraints.grammars import Grammars
from engine.constraints.masks import fill
from engine.drafting.verify import verify
from engine.sampling.guard import Guard
from engine.sampling.least import Least
from engine.sampling.logprobs import most_likely
from engine.sampling.rows import BatchSampler
from engine.steps.entry import Entry, Sliced
from engine.steps.likely import Likely
from engine.steps.plan import Insertion, Plan, Result
from engine.steps.row import Row


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

    def __init__(self, grammars: Grammars | None = None) -> None:
        """`grammars`: makes what answers are held to; None: nothing is."""
        self._sampler = BatchSampler()
        self._grammars = grammars
        self._rows: dict[int, Row] = {}
        self._penalised: dict[int, _Penalised] = {}
        self._constrained: dict[int, Constraint] = {}
        self._least = Least(grammars.ends if grammars is not None else ())
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
            self._least.learn(uid, entry.min_tokens - entry.generated)
            guard = Guard.of(entry)
            if guard is not None:
                self._penalised[uid] = _Penalised(entry, guard)
            if entry.logprobs is not None:
                self._rivals[uid] = entry.logprobs
            if entry.constrained and self._grammars is not None:
                self._constrained[uid] = self._grammars.constraint(
                    entry.format,
                    entry.tools,
                    reasoning=entry.reasoning,
                    reasoning_tokens=entry.reasoning_tokens,
                    generated=entry.tokens[len(entry.tokens) - entry.generated :],
                    chat=entry.parsed,
                )

    def forget(self, uids: Sequence[int]) -> None:
        for uid in uids:
            for known in (self._rows, self._penalised, self._constrained, self._rivals):
                known.pop(uid, None)
            self._least.forget(uid)

    # -- one token each --------------------------------------------------------------------------

    def choose(self, logits: mx.array, last: Sequence[int], uids: Sequence[int]) -> Choice:
        """`logits`: [batch, vocabulary], row by row of `uids`, whose last tokens are `last`."""
        logprobs = _normalised(self._least.apply(self._ruled(logits, last, uids), uids))
        tokens = self._sampler(logprobs, [self._rows[uid] for uid in uids])
        return Choice(tuple(uids), tokens, logprobs)

    def read(self, choice: Choice, plan: Plan) -> Result:
        """What became of it, once it is computed: waits for that."""
        tokens = _integers(choice.tokens)
        self._take(zip(choice.uids, tokens, strict=True))
        return Result(
            plan.lane,
            plan.number,
            tuple(zip(choice.uids, tokens, strict=True)),
            self._likely(list(choice.logprobs) if self._rivals else [], tokens, choice.uids),
            tuple(self._failed(choice.uids)),
            choice.logprobs.shape[-1],
            done=not plan.slice_tokens,
        )

    # -- several, as far as they were guessed ----------------------------------------------------

    def check(self, logits: mx.array, plan: Plan, uids: Sequence[int]) -> Result:
        """`logits`: [batch, 1 + guesses, vocabulary]. A guess is right where that very token would have been
        chosen without it, so that guessing changes no answer."""
        rows, width, vocabulary = logits.shape
        first = self._ruled(logits[:, 0], plan.tokens, uids)
        logits = mx.concatenate([first[:, None], logits[:, 1:]], axis=1)
        logits = self._least.apply(logits.reshape(rows * width, vocabulary), uids, width)
        logprobs = _normalised(logits)
        settings = [self._rows[uid] for uid in uids]
        places = [replace(row, drawn=row.drawn + place) for row in settings for place in range(width)]
        chosen = _integers(self._sampler(logprobs, places))
        verdicts = verify(plan.guesses, [chosen[row * width : (row + 1) * width] for row in range(rows)])
        made = [
            (row, place, token)
            for row, verdict in enumerate(verdicts)
            for place, token in enumerate(verdict.tokens)
        ]
        for row, verdict in zip(settings, verdicts, strict=True):
            row.drawn += len(verdict.tokens)
        self._take((uids[row], token) for row, _, token in made)
        return Result(
            plan.lane,
            plan.number,
            tuple((uids[row], token) for row, _, token in made),
            self._likely(
                [logprobs[row * width + place] for row, place, _ in made],
                [token for _, _, token in made],
                [uids[row] for row, _, _ in made],
            ),
            tuple(self._failed(uids)),
            vocabulary,
            done=not plan.slice_tokens,
        )

    # -- rules of their own ----------------------------------------------------------------------

    def _ruled(self, logits: mx.array, last: Sequence[int], uids: Sequence[int]) -> mx.array:
        """Logits [batch, vocabulary] as each sequence's own rules change them."""
        if any(uid in self._penalised for uid in uids):
            logits = self._penalise(logits, last, uids)
        if any(uid in self._constrained for uid in uids):
            # On the CPU, while the step's logits may still be computed elsewhere.
            logits = fill([self._constrained.get(uid) for uid in uids]).apply(logits)
        return logits

    def _penalise(self, logits: mx.array, last: Sequence[int], uids: Sequence[int]) -> mx.array:
        rows = []
        for place, (uid, token) in enumerate(zip(uids, last, strict=True)):
            row = logits[place : place + 1]
            penalised = self._penalised.get(uid)
            rows.append(penalised(token, row) if penalised else row)
        return mx.concatenate(rows, axis=0)

    def _take(self, tokens: Iterator[tuple[int, int]]) -> None:
        for uid, token in tokens:
            self._least.take(uid)
            constraint = self._constrained.get(uid)
            if constraint is not None:
                constraint.take(token)

    def _failed(self, uids: Sequence[int]) -> Iterator[tuple[int, str]]:
        for uid in uids:
            penalised, constraint = self._penalised.get(uid), self._constrained.get(uid)
            if penalised is not None and penalised.guard.failure is not None:
                yield uid, ""
            elif constraint is not None and constraint.failure:
                yield uid, f"The answer can't be held to its format: {constraint.failure}."

    # -- what was likely -------------------------------------------------------------------------

    def prompts(
        self, slices: Sequence[Sliced], logits: mx.array
    ) -> tuple[tuple[int, tuple[Likely, ...]], ...]:
        """Of each slice for which that is asked, what was likely after each of its tokens, in view of the
        prompt's next one. `logits`: [rows, tokens, vocabulary]."""
        found = []
        for each in slices:
            count = each.end - each.begin
            if not each.entry.prompt_logprobs or not count:
                continue
            logprobs = _normalised(logits[each.row, :count])
            rivals = self._rivals.get(each.uid, 0)
            told = each.entry.tokens[each.begin + 1 : each.end + 1]
            found.append((each.uid, tuple(most_likely(list(logprobs), told, [rivals] * count, self._side))))
        return tuple(found)

    def _likely(
        self, logprobs: Sequence[mx.array], chosen: Sequence[int], uids: Sequence[int]
    ) -> tuple[tuple[int, Likely], ...]:
        asked = [place for place, uid in enumerate(uids) if uid in self._rivals]
        found = most_likely(
            [logprobs[place] for place in asked],
            [chosen[place] for place in asked],
            [self._rivals[uids[place]] for place in asked],
            self._side,
        )
        return tuple(zip(asked, found, strict=True))


def _normalised(logits: mx.array) -> mx.array:
    return logits - mx.logsumexp(logits, axis=-1, keepdims=True)


def _integers(array: mx.array) -> list[int]:
    return cast("list[int]", array.tolist())
