"""A draft model: a small one that says what a large one is likely to say, for several sequences at once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

import mlx.core as mx
from mlx_lm.models.cache import CacheList, KVCache, RotatingKVCache

from engine.border import Network
from engine.drafting.verify import agreement, can_forget, forget
from engine.loader import LoadFailed, explain
from engine.memory.caches import Cache, compute, fresh_like, joined, merged
from engine.text.tokenizer import Tokenizer

PREFILLED_AT_ONCE: Final = 256
"""Tokens of prompts that one call may compute, of all sequences together."""
BEHIND: Final = 32
"""Tokens by which a sequence may be behind and still be computed with the others."""


def fresh_caches(network: Network) -> list[Cache]:
    """For one sequence, with plain ones in place of sliding windows, which can't take back single tokens.

    Models mask what is outside of a window themselves; where one does not, only its guesses are others.
    """
    return [_unbounded(cache) for cache in network.make_caches()]


def _unbounded(cache: Cache) -> Cache:
    if isinstance(cache, CacheList):
        return cast(Cache, CacheList(*(_unbounded(part) for part in cast("Sequence[Cache]", cache.caches))))
    return cast(Cache, KVCache()) if isinstance(cache, RotatingKVCache) else cache


def supports(network: Network) -> str:
    """Why a model can't draft, for a person to read; empty if it can."""
    caches = fresh_caches(network)
    if not can_forget(caches):
        kinds = sorted({type(cache).__name__ for cache in caches if not can_forget([cache])})
        return f"{network.architecture} can't take guesses back: it keeps a {', '.join(kinds)}"
    return ""


def mismatch(draft: Tokenizer, target: Tokenizer) -> str:
    """Why one model's tokens mean nothing to the other, for a person to read; empty if they are the same."""
    mine, theirs = draft.pieces(), target.pieces()
    if len(mine) != len(theirs):
        return f"the draft model has {len(mine)} tokens, the model {len(theirs)}: choose one of its family"
    differing = [place for place, (one, other) in enumerate(zip(mine, theirs, strict=True)) if one != other]
    if differing:
        place = differing[0]
        return (
            f"{len(differing)} tokens of the draft model are others, the first one {place}: "
            f"{mine[place]!r} for {theirs[place]!r}. Choose one of the model's family"
        )
    return ""


def load_draft(folder: Path, tokenizer: Tokenizer) -> "DraftModel":
    """Read the model in `folder` to draft for one with this tokenizer. Raises LoadFailed."""
    try:
        network = Network(folder)
        reason = supports(network) or mismatch(Tokenizer(folder, network.config), tokenizer)
        if not reason:
            # A forward reads all weights that forwards need.
            mx.eval(network.forward(mx.array([[0]]), network.make_caches()))
    except Exception as error:
        raise LoadFailed(explain(error, folder)) from error
    if reason:
        raise LoadFailed(f"{folder.name} can't draft: {reason}")
    return DraftModel(network, len(tokenizer))


@dataclass(slots=True)
class _Row:
    """A sequence. Its caches hold the first `held` of its tokens, and after them `guessed`."""

    tokens: list[int]
    held: int = 0
    guessed: tuple[int, ...] = ()
    alone: list[Cache] = field(default_factory=list)
    """Its caches as a batch of one, while it is not computed with others."""

    @property
    def behind(self) -> int:
        return len(self.tokens) - self.held

    def settle(self) -> int:
        """Keep of what was guessed what came true; how many tokens its caches have to forget for it."""
        # The last token is always computed anew: what follows it is what is asked for.
        kept = min(agreement(self.guessed, self.tokens[self.held :]), self.behind - 1)
        wrong = len(self.guessed) - kept
        self.held += kept
        self.guessed = ()
        return wrong


class DraftModel:
    """Guesses greedily. Tokens are computed when guesses are asked for, and never many at a time."""

    def __init__(self, network: Network, vocabulary: int, prefilled_at_once: int = PREFILLED_AT_ONCE) -> None:
        """`vocabulary`: tokens that may be guessed; a model may have more that stand for nothing."""
        self._network = network
        self._vocabulary = vocabulary
        self._prefilled_at_once = prefilled_at_once
        self._rows: dict[int, _Row] = {}
        self._together: list[int] = []
        """The sequences that the caches of the batch belong to, in order."""
        self._batch: list[Cache] = []

    @property
    def nbytes(self) -> int:
        """What its caches take."""
        alone = [cache for row in self._rows.values() for cache in row.alone]
        return sum(cache.nbytes for cache in (*self._batch, *alone))

    # -- who is in it ----------------------------------------------------------------------------

    def begin(self, uid: int, tokens: Iterable[int]) -> None:
        """A sequence with all its tokens so far: one at least."""
        fresh = [fresh_like(cache, 1) for cache in fresh_caches(self._network)]
        self._rows[uid] = _Row(list(tokens), alone=fresh)

    def took(self, uid: int, tokens: Iterable[int]) -> None:
        """What really followed, after guesses or without any."""
        self._rows[uid].tokens += tokens

    def forget(self, uids: Iterable[int]) -> None:
        gone = set(uids)
        if not gone.isdisjoint(self._together):
            self._keep([place for place, uid in enumerate(self._together) if uid not in gone])
            compute(self._batch)  # now: it may be long until somebody is guessed for again
        for uid in gone:
            self._rows.pop(uid, None)

    # -- guesses ---------------------------------------------------------------------------------

    def propose(self, uids: Sequence[int], count: int) -> Mapping[int, tuple[int, ...]]:
        """`count` guesses (one or more) for each of these that has caught up with its tokens; the others
        catch up by a slice. Those that nobody asks about stay computed with the others while that is little:
        to take a sequence out and in again copies caches."""
        if not uids:
            return {}
        self._roll_back()
        self._part_from_stragglers()
        apart = [uid for uid in uids if uid not in self._together]
        for uid in apart:
            if self._rows[uid].behind <= BEHIND:
                self._gather(uid)
        # After that: guesses are not to look as slow as the last slice of a prompt.
        self._prefill([uid for uid in apart if self._rows[uid].behind > BEHIND])
        if not self._together:
            return {}
        guesses = dict(zip(self._together, self._guess(count), strict=True))
        return {uid: guesses[uid] for uid in uids if uid in guesses}

    def _roll_back(self) -> None:
        counts = [self._rows[uid].settle() for uid in self._together]
        forget(self._batch, counts)

    def _part_from_stragglers(self) -> None:
        behind = [self._rows[uid].behind > BEHIND for uid in self._together]
        for place, uid in enumerate(self._together):
            if behind[place]:
                singles = [cache.extract(place) for cache in self._batch]
                compute(singles)
                self._rows[uid].alone = merged([singles])
        if any(behind):
            self._keep([place for place, late in enumerate(behind) if not late])

    def _keep(self, places: list[int]) -> None:
        self._together = [self._together[place] for place in places]
        if not places:
            self._batch = []
        for cache in self._batch:
            cache.filter(places)

    def _gather(self, uid: int) -> None:
        row = self._rows[uid]
        self._batch = joined(self._batch, row.alone)
        row.alone = []
        self._together.append(uid)

    def _prefill(self, uids: Sequence[int]) -> None:
        """Go on with what is behind, one after the other, as far as one call may."""
        left = self._prefilled_at_once
        for uid in uids:
            row = self._rows[uid]
            count = min(left, row.behind - 1)
            if not count:
                return
            tokens = row.tokens[row.held : row.held + count]
            self._network.forward(mx.array([tokens]), row.alone)
            compute(row.alone)
            row.held += count
            left -= count

    def _guess(self, count: int) -> list[tuple[int, ...]]:
        """For the sequences of the batch: compute what is new of each, then guess from guesses."""
        rows = [self._rows[uid] for uid in self._together]
        new = [row.tokens[row.held :] for row in rows]
        longest = max(len(tokens) for tokens in new)
        padded = mx.array([tokens + [0] * (longest - len(tokens)) for tokens in new])
        logits = self._network.forward(padded, self._batch)
        ends = mx.array([len(tokens) - 1 for tokens in new])[:, None, None]
        guesses = [self._likeliest(mx.take_along_axis(logits, ends, axis=1))]
        forget(self._batch, [longest - len(tokens) for tokens in new])
        while len(guesses) < count:
            guesses.append(self._likeliest(self._network.forward(guesses[-1], self._batch)))
        together = mx.concatenate(guesses, axis=1)
        mx.eval(together)
        compute(self._batch)
        found = [tuple(each) for each in cast("list[list[int]]", together.tolist())]
        for row, guess in zip(rows, found, strict=True):
            row.held = len(row.tokens)
            # Nothing was computed after the last one.
            row.guessed = guess[:-1]
        return found

    def _likeliest(self, logits: mx.array) -> mx.array:
        """[batch, 1] from [batch, 1, vocabulary]."""
        return mx.argmax(logits[..., : self._vocabulary], axis=-1)
