"""Computes steps of a whole model in this process: mlx-lm's BatchGenerator, one step at a time."""

from collections.abc import Sequence
from typing import Final, Protocol

import mlx.core as mx
from mlx_lm.generate import BatchGenerator

from engine.border import Network, side_stream
from engine.guard import Guard
from engine.logprobs import most_likely
from engine.sampling import BatchSampler, Row
from engine.steps import Chosen, Entry, Kept, Stepped

_ENDLESS: Final = 1 << 62
"""Tokens: sequences are ended by who watches them, not by the generator."""


class _Response(Protocol):
    uid: int
    token: int
    logprobs: mx.array


class Generator:
    """A Stepper of one lane, through what mlx-lm offers to everybody.

    The generator has the next token computed while it returns the last one's; it samples first for those
    that decode, in the order in which they joined, and then for those that join.
    """

    lanes = 1
    depth = 1

    def __init__(self, network: Network, at_most: int) -> None:
        self.vocabulary = 0
        self._sampler = BatchSampler()
        # Who inserts decides how many run: the generator's own limits are never reached.
        self._generator = BatchGenerator(
            network.model,
            sampler=self._sampler,
            max_tokens=_ENDLESS,
            completion_batch_size=at_most + 1,
            prefill_batch_size=at_most + 1,
        )
        self._side = side_stream()
        self._rows: dict[int, Row] = {}
        self._guards: dict[int, Guard] = {}
        self._rivals: dict[int, int] = {}
        self._begun: tuple[int, Sequence[int], Sequence[int]] | None = None

    def insert(self, lane: int, entry: Entry, kept: Kept | None) -> int:
        done = kept.done if kept else 0
        guard = Guard.of(entry)
        (found,) = self._generator.insert(
            [entry.tokens[done:]],
            logits_processors=[[guard] if guard else None],
            caches=[kept.what] if kept else None,
            all_tokens=[entry.tokens[:done]],
        )
        uid = int(found)
        self._rows[uid] = entry.row
        if guard is not None:
            self._guards[uid] = guard
        if entry.logprobs is not None:
            self._rivals[uid] = entry.logprobs
        return uid

    def put_aside(self, lane: int, uid: int, done: int) -> Kept:
        cache, _ = self._generator.remove([uid], return_prompt_caches=True)[uid]
        self._forget(uid)
        return Kept(uid, done, cache)

    def drop(self, kept: Kept) -> None:
        """What was kept goes with its last reference."""

    def remove(self, lane: int, uids: Sequence[int]) -> None:
        self._generator.remove(list(uids))
        for uid in uids:
            self._forget(uid)

    def _forget(self, uid: int) -> None:
        self._rows.pop(uid, None)
        self._guards.pop(uid, None)
        self._rivals.pop(uid, None)

    def begin(self, lane: int, slice_tokens: int, decoding: Sequence[int], joining: Sequence[int]) -> None:
        self._begun = slice_tokens, list(decoding), list(joining)

    def tidy(self, lane: int) -> None:
        """Removals have taken effect already."""

    def wait(self) -> list[Stepped]:
        """Compute what was begun."""
        if self._begun is None:
            return []
        (slice_tokens, decoding, joining), self._begun = self._begun, None
        self._sampler.expect(
            [self._rows[uid] for uid in decoding if uid in self._rows],
            [self._rows[uid] for uid in joining if uid in self._rows],
        )
        self._generator.prefill_step_size = max(slice_tokens, 1)
        _, generated = self._generator.next()
        return [Stepped(0, self._chosen(generated), self._failed(), decoded=True, done=True)]

    def _chosen(self, generated: Sequence[_Response]) -> list[Chosen]:
        if generated:
            self.vocabulary = int(generated[0].logprobs.shape[-1])
        asked = [response for response in generated if response.uid in self._rivals]
        rows: list[mx.array] = [response.logprobs for response in asked]
        found = most_likely(
            rows,
            [response.token for response in asked],
            [self._rivals[response.uid] for response in asked],
            self._side,
        )
        likely = {response.uid: each for response, each in zip(asked, found, strict=True)}
        return [Chosen(each.uid, each.token, likely.get(each.uid)) for each in generated]

    def _failed(self) -> tuple[int, ...]:
        return tuple(uid for uid, guard in self._guards.items() if guard.failure is not None)

    @property
    def kv_bytes(self) -> int:
        return int(self._generator.prompt_cache_nbytes)

    def settle(self) -> None:
        """Wait until nothing is being computed and give back the memory that was kept for reuse."""
        mx.synchronize(self._generator.stream)
        mx.clear_cache()
