"""A micro-batch as one rank holds it: its sequences, and the caches of this rank's layers for them."""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import mlx.core as mx

from engine.border import start
from engine.drafting.verify import forget, unroll
from engine.memory.caches import Cache, compute, joined, merged, split
from engine.sharding.stage import Stage
from engine.steps.entry import Entry, Sliced


@dataclass(slots=True)
class Prompt:
    """A sequence whose prompt is being computed."""

    uid: int
    entry: Entry
    done: int = 0


@dataclass(frozen=True, slots=True)
class Aside:
    """A sequence that was taken out of its prefill, or that begins, and the caches of what is computed."""

    prompt: Prompt
    caches: list[Cache]


@dataclass(slots=True)
class _Rows:
    """Sequences that are computed together, and one cache of all of them per layer."""

    uids: list[int] = field(default_factory=list)
    caches: list[Cache] = field(default_factory=list)

    def keep(self, places: list[int]) -> None:
        self.uids = [self.uids[place] for place in places]
        if not places:
            self.caches = []
        for cache in self.caches:
            cache.filter(places)

    def extend(self, more: "_Rows") -> None:
        self.uids += more.uids
        self.caches = joined(self.caches, more.caches)

    def without(self, uids: Sequence[int]) -> list[int]:
        unwanted = set(uids)
        return [place for place, uid in enumerate(self.uids) if uid not in unwanted]


class Lane:
    """Carries out what the plans of its lane say, in their order.

    The arithmetic on caches is that of mlx-lm's PromptProcessingBatch and GenerationBatch.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._decoding = _Rows()
        self._slicing = _Rows()
        self._prompts: dict[int, Prompt] = {}
        self._ahead: mx.array | None = None
        """Logits [rows, 1, vocabulary] after the last tokens of those that decode, begun already."""
        self.slice_s: float | None = None
        """What the last slice took, if it had to wait for a step that was begun before it."""

    def __len__(self) -> int:
        return len(self._decoding.uids) + len(self._slicing.uids)

    def __contains__(self, uid: int) -> bool:
        return uid in self._decoding.uids or uid in self._slicing.uids

    @property
    def decoding(self) -> Sequence[int]:
        return self._decoding.uids

    @property
    def nbytes(self) -> int:
        return sum(cache.nbytes for rows in (self._decoding, self._slicing) for cache in rows.caches)

    @property
    def caches(self) -> Sequence[Cache]:
        """Of those that decode, or else of those that are prefilled."""
        return self._decoding.caches or self._slicing.caches

    def find(self, uid: int) -> tuple[Sequence[Cache], int]:
        """The caches that hold a sequence, and its row in them."""
        rows = self._decoding if uid in self._decoding.uids else self._slicing
        return rows.caches, rows.uids.index(uid)

    # -- who is in it ----------------------------------------------------------------------------

    def remove(self, uids: Sequence[int]) -> None:
        staying = self._decoding.without(uids)
        if self._ahead is not None and len(staying) < len(self._decoding.uids):
            self._ahead = self._ahead[mx.array(staying)] if staying else None
        for rows in (self._decoding, self._slicing):
            keep = rows.without(uids)
            if len(keep) < len(rows.uids):
                rows.keep(keep)
        for uid in uids:
            self._prompts.pop(uid, None)

    def put_aside(self, uid: int) -> Aside:
        place = self._slicing.uids.index(uid)
        rest = self._slicing.without([uid])
        caches, left = [], []
        while self._slicing.caches:  # one by one: else all of it is in memory twice
            cache = self._slicing.caches.pop(0)
            caches.append(cache.extract(place))
            compute(caches[-1:])
            if rest:
                cache.filter(rest)
                compute([cache])
                left.append(cache)
        self._slicing = _Rows([self._slicing.uids[place] for place in rest], left)
        return Aside(self._prompts.pop(uid), caches)

    def insert(self, asides: Sequence[Aside]) -> None:
        """Sequences that begin, or go on, with these caches."""
        if not asides:
            return
        for aside in asides:
            self._prompts[aside.prompt.uid] = aside.prompt
        rows = _Rows([aside.prompt.uid for aside in asides], merged([aside.caches for aside in asides]))
        self._slicing.extend(rows)

    def forget(self, counts: Sequence[int]) -> None:
        """Of each sequence that decodes, so many tokens at its end."""
        if any(counts):
            forget(self._decoding.caches, counts)

    # -- what it computes ------------------------------------------------------------------------

    def decode(
        self, joining: Sequence[int], tokens: Sequence[int], received: mx.array | None
    ) -> tuple[list[int], mx.array, mx.array]:
        """One token for each that decodes, `joining` among them from now on, after the others.

        `tokens`: the last ones of those that decode already. Returns the last tokens of all, hidden states
        [batch, 1, width] and logits [batch, 1, vocabulary], not computed yet.
        """
        firsts, rows = self._take(joining)
        last = [*tokens, *firsts]
        if self._ahead is None:
            self._decoding.extend(rows)
            return last, *self._stage.forward(mx.array(last)[:, None], received, self._decoding.caches)
        logits, self._ahead = self._ahead, None
        if rows.uids:
            _, theirs = self._stage.forward(mx.array(firsts)[:, None], None, rows.caches)
            self._decoding.extend(rows)
            logits = mx.concatenate([logits, theirs])
        return last, logits, logits

    def check(
        self, tokens: Sequence[int], guesses: Sequence[Sequence[int]], received: mx.array | None
    ) -> tuple[mx.array, mx.array]:
        """As `decode`, for the last token of each and guesses of what follows it, padded on the right:
        hidden states [batch, 1 + guesses, width] and logits [batch, 1 + guesses, vocabulary]."""
        longest = max(len(row) for row in guesses)
        rows = [
            [token, *row, *[0] * (longest - len(row))] for token, row in zip(tokens, guesses, strict=True)
        ]
        unroll(self._decoding.caches)
        return self._stage.forward(mx.array(rows), received, self._decoding.caches)

    def go_ahead(self, chosen: mx.array) -> None:
        """Begin with the next step, whose tokens [rows] need not be known yet. Nothing waits for it."""
        # Apart: MLX says that arrays which were started together are there when all of them are.
        start(chosen)
        _, self._ahead = self._stage.forward(chosen[:, None], None, self._decoding.caches)
        start(self._ahead)

    def _take(self, uids: Sequence[int]) -> tuple[list[int], _Rows]:
        """Take sequences out of prefill, with their prompts' last tokens."""
        if not uids:
            return [], _Rows()
        order = [self._slicing.uids.index(uid) for uid in uids]
        rest = self._slicing.without(uids)
        taken, left = split(self._slicing.caches, order, rest)
        self._slicing = _Rows([self._slicing.uids[place] for place in rest], left)
        return [self._prompts.pop(uid).entry.tokens[-1] for uid in uids], _Rows(list(uids), taken)

    def slices(self, most: int) -> list[Sliced]:
        """The next slice of each prompt; those that need none are empty."""
        found = []
        for row, uid in enumerate(self._slicing.uids):
            prompt = self._prompts[uid]
            end = prompt.entry.slice_end(prompt.done, most)
            found.append(Sliced(uid, prompt.entry, row, prompt.done, end))
        return found

    def prefill(
        self, slices: Sequence[Sliced], received: mx.array | None
    ) -> tuple[mx.array, mx.array, mx.array | None]:
        """Compute these: hidden states [batch, tokens, width], padded on the right; logits, not computed yet,
        and of no use beside embeddings unless a prompt is scored; and where an embedding is wanted and this
        is the last stage, hidden states after the final norm."""
        lengths = [each.end - each.begin for each in slices]
        longest = max(lengths)
        if longest == 1 and not all(lengths):
            longest = 2  # mlx-lm takes no padding along with single tokens
        padding = [longest - length for length in lengths]
        padded = any(padding)
        if longest > 1:
            unroll(self._slicing.caches)  # after a slice of one
        if padded:
            for cache in self._slicing.caches:
                cache.prepare(lengths=lengths, right_padding=padding)
        for each in slices:
            self._prompts[each.uid].done = each.end
        tokens = mx.array(
            [
                each.entry.tokens[each.begin : each.end] + [0] * pad
                for each, pad in zip(slices, padding, strict=True)
            ]
        )
        hidden, logits, normed = self._pass(slices, tokens, received)
        made: list[object] = [cache.state for cache in self._slicing.caches]
        if not self._stage.last or any(_is_told(each) for each in slices):
            # Else nobody needs a prompt's hidden states but the layers that they have passed.
            # On every rank of a tensor group, though only one tells: all have a part in the last layer, too.
            made += [logits if self._stage.shares_head else hidden, *([] if normed is None else [normed])]
        since_s = self._await_ahead()
        mx.eval(made)
        if padded:
            for cache in self._slicing.caches:
                cache.finalize()
            compute(self._slicing.caches)
        self.slice_s = None if since_s is None else time.monotonic() - since_s
        return hidden, logits, normed

    def _pass(
        self, slices: Sequence[Sliced], tokens: mx.array, received: mx.array | None
    ) -> tuple[mx.array, mx.array, mx.array | None]:
        """As `prefill`, not computed yet."""
        caches = self._slicing.caches
        if not (self._stage.last and any(each.entry.embed for each in slices)):
            return *self._stage.forward(tokens, received, caches), None
        if not any(each.entry.prompt_logprobs for each in slices):
            hidden, normed = self._stage.embed(tokens, received, caches)
            return hidden, normed, normed
        # Twice: what comes before the head is no part of what a model's forward gives along with logits.
        hidden, logits = self._stage.forward(tokens, received, copy.deepcopy(caches))
        return hidden, logits, self._stage.embed(tokens, received, caches)[1]

    def _await_ahead(self) -> float | None:
        """Wait for the step that was begun before a slice; else nobody could tell what took how long. Returns
        when it was there, on the monotonic clock; None: there was none."""
        if self._ahead is None:
            return None
        mx.eval(self._ahead)
        return time.monotonic()


def _is_told(part: Sliced) -> bool:
    """Whether somebody wants to know more of it than what its caches keep."""
    return part.end > part.begin and (part.entry.embed or part.entry.prompt_logprobs)
