"""The sequences of one lane, one step at a time, and where each of them stands."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from engine.steps.entry import Entry
from engine.steps.likely import Likely
from engine.steps.stepper import Chosen, Kept, Progress, Stepped, Stepper

PROBED: Final = 128
"""Tokens of a slice at most, where the prompt's own log-probabilities are wanted: each of them has as many
logits as the vocabulary has tokens."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step did, as far as it is computed."""

    chosen: list[Chosen]
    progress: list[Progress]
    failed: tuple[tuple[int, str], ...]
    joined: int
    """Sequences that joined those that decode."""
    decodes: bool
    """Tokens are chosen in it."""
    sliced: int
    """Tokens that were prefilled, padding included."""
    position: int
    """Where in their prompts the slice began."""
    guessed: bool = False
    """It checked guesses as well."""
    done: bool = True
    """Nothing of the step is missing."""
    prompts: tuple[tuple[int, tuple[Likely, ...]], ...] = ()
    """As in Stepped."""
    vectors: tuple[tuple[int, bytes], ...] = ()
    """As in Stepped."""


@dataclass(slots=True)
class _Prefill:
    entry: Entry
    done: int

    @property
    def total(self) -> int:
        return len(self.entry.tokens)

    @property
    def computed(self) -> bool:
        """But for the last token."""
        return self.total - self.done == 1

    @property
    def joins(self) -> bool:
        """In the next step, with its last token."""
        return self.computed and self.entry.answers


@dataclass(frozen=True, slots=True)
class _Begun:
    """A step under way."""

    decodes: bool
    progress: list[Progress] = field(default_factory=list)
    joined: int = 0
    sliced: int = 0
    position: int = 0
    guessed: bool = False


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

    # -- who is where ----------------------------------------------------------------------------

    @property
    def decoding(self) -> int:
        return len(self._decoding)

    @property
    def decoding_uids(self) -> Sequence[int]:
        """In the order in which they joined."""
        return self._decoding

    @property
    def prefilling(self) -> int:
        """Sequences whose prompts need more slices."""
        return len(self._slicing())

    @property
    def joining(self) -> int:
        """Sequences that join in the next step."""
        return sum(prefill.joins for prefill in self._prefills.values())

    @property
    def position(self) -> int:
        """How far the prompt that is furthest behind its slices has come."""
        return max((prefill.done for prefill in self._slicing().values()), default=0)

    def standing(self) -> Iterator[tuple[int, Entry, int]]:
        """Uid, entry and computed tokens of each sequence whose prompt is being computed."""
        for uid, prefill in self._prefills.items():
            yield uid, prefill.entry, prefill.done

    def lone_prefill(self) -> tuple[int, int] | None:
        """Uid and remaining tokens of the prompt under way, if it is the only one."""
        slicing = self._slicing()
        if len(slicing) != 1:
            return None
        ((uid, prefill),) = slicing.items()
        return uid, prefill.total - prefill.done

    def _slicing(self) -> dict[int, _Prefill]:
        return {uid: prefill for uid, prefill in self._prefills.items() if not prefill.computed}

    @property
    def under_way(self) -> int:
        """Steps that were begun and are not done."""
        return len(self._begun)

    def may_begin(self, depth: int) -> bool:
        """Whether a step may begin, with `depth` of them under way at most. Never before the tokens
        of the last one are there."""
        return not self._awaited and self.under_way < depth

    @property
    def idle(self) -> bool:
        """There is nothing to compute for those who are in it."""
        return not self._decoding and not any(
            prefill.joins or not prefill.computed for prefill in self._prefills.values()
        )

    # -- who comes and goes ----------------------------------------------------------------------

    def insert(self, entry: Entry, kept: Kept | None = None) -> int:
        """Add a sequence, or go on with one of which something is kept; returns its uid."""
        uid = self._stepper.insert(self._lane, entry, kept)
        self._prefills[uid] = _Prefill(entry, kept.done if kept else 0)
        return uid

    def put_aside(self, uid: int) -> Kept:
        """Take out a sequence in the middle of its prefill, to go on with it later."""
        return self._stepper.put_aside(self._lane, uid, self._prefills.pop(uid).done)

    def remove(self, uids: Sequence[int]) -> None:
        """Forget sequences before the next step."""
        if not uids:
            return
        self._stepper.remove(self._lane, uids)
        for uid in uids:
            self._prefills.pop(uid, None)
        self._decoding = [uid for uid in self._decoding if uid not in uids]

    # -- steps -----------------------------------------------------------------------------------

    def begin(self, slice_tokens: int, guesses: Sequence[tuple[int, ...]] = (), ahead: bool = True) -> None:
        """Begin a step: decode a token, let sequences join, prefill `slice_tokens` over all prompts.
        `guesses`, `ahead`: as in Stepper."""
        joining = [uid for uid, prefill in self._prefills.items() if prefill.joins]
        slicing = self._slicing()
        each = max(slice_tokens // max(len(slicing), 1), 1)
        if any(prefill.entry.prompt_logprobs for prefill in slicing.values()):
            each = min(each, PROBED)
        position = self.position
        self._stepper.begin(self._lane, each if slicing else 0, self._decoding, joining, guesses, ahead)
        progress = []
        for uid in joining:
            total = self._prefills.pop(uid).total
            progress.append(Progress(uid, total, total))
        longest = 0
        for uid, prefill in slicing.items():
            end = prefill.entry.slice_end(prefill.done, each)
            longest = max(longest, end - prefill.done)
            prefill.done = end
            progress.append(Progress(uid, prefill.done, prefill.total))
        self._decoding += joining
        decodes = bool(self._decoding)
        self._awaited += decodes
        sliced = longest * len(slicing)
        self._begun.append(_Begun(decodes, progress, len(joining), sliced, position, bool(guesses)))

    def finish(self, stepped: Stepped) -> Outcome:
        """Take in what became of the oldest step under way."""
        begun = self._begun.popleft() if stepped.done else self._begun[0]
        self._awaited -= stepped.decoded and begun.decodes
        return Outcome(
            stepped.chosen,
            begun.progress if stepped.done else [],
            stepped.failed,
            begun.joined,
            begun.decodes,
            begun.sliced,
            begun.position,
            begun.guessed,
            stepped.done,
            stepped.prompts,
            stepped.vectors,
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
        if self.idle:
            self._stepper.tidy(self._lane)
