"""The sequences of one lane, one step at a time, and where each of them stands."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from engine.steps import Chosen, Entry, Kept, Progress, Stepped, Stepper


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step did, as far as it is computed."""

    chosen: list[Chosen]
    progress: list[Progress]
    failed: tuple[int, ...]
    joined: int
    """Sequences that joined those that decode."""
    sliced: int
    """Tokens that were prefilled, padding included."""
    position: int
    """Where in their prompts the slice began."""
    done: bool = True
    """Nothing of the step is missing."""


@dataclass(slots=True)
class _Prefill:
    done: int
    total: int

    @property
    def joins(self) -> bool:
        """Its prompt is computed but for the last token, with which it joins in the next step."""
        return self.total - self.done == 1


@dataclass(frozen=True, slots=True)
class _Begun:
    """A step under way."""

    decodes: bool
    progress: list[Progress] = field(default_factory=list)
    joined: int = 0
    sliced: int = 0
    position: int = 0


class Batch:
    """Knows each sequence's place once the steps that are under way are done."""

    def __init__(self, stepper: Stepper, lane: int = 0) -> None:
        self._stepper = stepper
        self._lane = lane
        self._decoding: list[int] = []
        self._prefills: dict[int, _Prefill] = {}
        self._begun: deque[_Begun] = deque()
        self._awaited = 0
        """Steps under way whose tokens are not chosen yet: one at most."""

    def __len__(self) -> int:
        return len(self._decoding) + len(self._prefills)

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

    @property
    def under_way(self) -> int:
        """Steps that were begun and are not done."""
        return len(self._begun)

    def may_begin(self, depth: int) -> bool:
        """Whether a step may begin, with `depth` of them under way at most. Never before the tokens
        of the last one are there."""
        return not self._awaited and self.under_way < depth

    def insert(self, entry: Entry, kept: Kept | None = None) -> int:
        """Add a sequence, or go on with one that was put aside; returns its uid."""
        uid = self._stepper.insert(self._lane, entry, kept)
        self._prefills[uid] = _Prefill(kept.done if kept else 0, len(entry.tokens))
        return uid

    def put_aside(self, uid: int) -> Kept:
        """Take out a sequence in the middle of its prefill, to go on with it later."""
        return self._stepper.put_aside(self._lane, uid, self._prefills.pop(uid).done)

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
        self._stepper.remove(self._lane, uids)
        for uid in uids:
            self._prefills.pop(uid, None)
        self._decoding = [uid for uid in self._decoding if uid not in uids]

    def begin(self, slice_tokens: int) -> None:
        """Begin a step: decode a token, let sequences join, prefill `slice_tokens` over all prompts."""
        joining = [uid for uid, prefill in self._prefills.items() if prefill.joins]
        slicing = {uid: prefill for uid, prefill in self._prefills.items() if not prefill.joins}
        each = max(slice_tokens // max(len(slicing), 1), 1)
        position = self.position
        self._stepper.begin(self._lane, each if slicing else 0, self._decoding, joining)
        progress = []
        for uid in joining:
            total = self._prefills.pop(uid).total
            progress.append(Progress(uid, total, total))
        longest = 0
        for uid, prefill in slicing.items():
            count = min(each, prefill.total - 1 - prefill.done)
            longest = max(longest, count)
            prefill.done += count
            progress.append(Progress(uid, prefill.done, prefill.total))
        self._decoding += joining
        decodes = bool(self._decoding)
        self._awaited += decodes
        self._begun.append(_Begun(decodes, progress, len(joining), longest * len(slicing), position))

    def finish(self, stepped: Stepped) -> Outcome:
        """Take in what became of the oldest step under way."""
        begun = self._begun.popleft() if stepped.done else self._begun[0]
        self._awaited -= stepped.decoded and begun.decodes
        return Outcome(
            stepped.chosen,
            begun.progress if stepped.done else [],
            stepped.failed,
            begun.joined,
            begun.sliced,
            begun.position,
            stepped.done,
        )

    def step(self, slice_tokens: int) -> Outcome:
        """Begin a step and wait until it is done; for when no other lane has steps under way."""
        self.begin(slice_tokens)
        chosen: list[Chosen] = []
        while True:
            for stepped in self._stepper.wait():
                outcome = self.finish(stepped)
                chosen += outcome.chosen
                if outcome.done:
                    return replace(outcome, chosen=chosen)

    def tidy(self) -> None:
        """Where nothing is left to compute, let removals take effect all the same."""
        if not len(self):
            self._stepper.tidy(self._lane)
