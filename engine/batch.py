"""The batch that is computed, one step at a time, and whose rows are whose."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from engine.border import Chosen, Kept, Processor, Progress
from engine.sampling import BatchSampler, Row


class Stepper(Protocol):
    """What computes: see engine.border.Generator."""

    def insert(self, tokens: list[int], processor: Processor | None, kept: Kept | None) -> int: ...
    def put_aside(self, uid: int) -> Kept: ...
    def remove(self, uids: Sequence[int]) -> None: ...
    def step(self, slice_tokens: int) -> tuple[list[Progress], list[Chosen]]: ...
    def settle(self) -> None: ...
    @property
    def kv_bytes(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step did."""

    chosen: list[Chosen]
    progress: list[Progress]
    joined: int
    """Sequences that joined those that decode."""
    sliced: int
    """Tokens that were prefilled, padding included."""
    position: int
    """Where in their prompts the slice began."""


@dataclass(slots=True)
class _Prefill:
    done: int
    total: int
    before: int = 0
    """Tokens that were computed before it was put aside; the generator counts from there."""

    @property
    def joins(self) -> bool:
        """Its prompt is computed but for the last token, with which it joins in the next step."""
        return self.total - self.done == 1


class Batch:
    """Knows each sequence's place, and tells the sampler before each step whose rows it will see.

    In a step the generator samples first for those that decode, in the order in which they joined, and
    then for those that join, in the order of their insertion.
    """

    def __init__(self, stepper: Stepper, sampler: BatchSampler) -> None:
        self._stepper = stepper
        self._sampler = sampler
        self._rows: dict[int, Row] = {}
        self._decoding: list[int] = []
        self._prefills: dict[int, _Prefill] = {}

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def decoding(self) -> int:
        return len(self._decoding)

    @property
    def prefilling(self) -> int:
        """Sequences whose prompts need more slices."""
        return sum(not prefill.joins for prefill in self._prefills.values())

    @property
    def joining(self) -> int:
        """Sequences that join in the next step."""
        return len(self._prefills) - self.prefilling

    @property
    def position(self) -> int:
        """How far the prompt that is furthest behind its slices has come."""
        return max((prefill.done for prefill in self._prefills.values() if not prefill.joins), default=0)

    def insert(
        self, tokens: list[int], row: Row, processor: Processor | None, kept: Kept | None = None
    ) -> int:
        """Add a sequence, or go on with one that was put aside; returns its uid."""
        uid = self._stepper.insert(tokens, processor, kept)
        done = kept.done if kept else 0
        self._rows[uid] = row
        self._prefills[uid] = _Prefill(done, len(tokens), before=done)
        return uid

    def put_aside(self, uid: int) -> Kept:
        """Take out a sequence in the middle of its prefill, to go on with it later."""
        kept = self._stepper.put_aside(uid)
        del self._rows[uid], self._prefills[uid]
        return kept

    def lone_prefill(self) -> tuple[int, int] | None:
        """Uid and remaining tokens of the prompt under way, if it is the only one."""
        slicing = [(uid, prefill) for uid, prefill in self._prefills.items() if not prefill.joins]
        if len(slicing) != 1:
            return None
        ((uid, prefill),) = slicing
        return uid, prefill.total - prefill.done

    def remove(self, uids: Sequence[int]) -> None:
        """Forget sequences before the next step."""
        if not uids:
            return
        self._stepper.remove(uids)
        for uid in uids:
            self._rows.pop(uid, None)
            self._prefills.pop(uid, None)
        self._decoding = [uid for uid in self._decoding if uid in self._rows]

    def step(self, slice_tokens: int) -> Outcome:
        """Decode a token, let sequences join, prefill a slice of `slice_tokens` over all prompts."""
        joining = [uid for uid, prefill in self._prefills.items() if prefill.joins]
        slicing = [prefill for prefill in self._prefills.values() if not prefill.joins]
        each = max(slice_tokens // max(len(slicing), 1), 1)
        position = self.position
        longest = max((min(each, prefill.total - 1 - prefill.done) for prefill in slicing), default=0)
        self._sampler.expect(self._rows_of(self._decoding), self._rows_of(joining))
        counted, chosen = self._stepper.step(each)
        progress = [self._count(part) for part in counted]
        for uid in joining:
            del self._prefills[uid]
        self._decoding = [part.uid for part in chosen] + joining
        return Outcome(chosen, progress, len(joining), longest * len(slicing), position)

    def _count(self, part: Progress) -> Progress:
        prefill = self._prefills[part.uid]
        prefill.done = prefill.before + part.done
        return Progress(part.uid, prefill.done, prefill.total)

    def settle(self) -> None:
        """Nothing is left to compute: give back memory."""
        self._stepper.settle()

    @property
    def kv_bytes(self) -> int:
        return self._stepper.kv_bytes

    def _rows_of(self, uids: Sequence[int]) -> list[Row]:
        return [self._rows[uid] for uid in uids]
