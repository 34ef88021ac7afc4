"""Who may begin, and who gives way, so that KV cache never takes more than its budget.

Memory is counted ahead: what is admitted has room to grow for a while, and each step is looked at before it
is taken. When there is too little, kept prefixes go first; then nobody is admitted any more; then the
youngest sequences are put off, to go on later from their tokens. The oldest one never is, so that it ends
some day, and after it every other: provided that those who wait, put off or new, are asked about in the order
in which they arrived, and that no limit is above `room_ever`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from bus.messages.engine import Budget
from engine.memory.footprint import Footprint, longest

MARGIN: Final = 256
"""Tokens that everybody can grow by when somebody is admitted: whoever comes in is not put off at once."""
AHEAD: Final = 32
"""Tokens, guesses included, that a sequence grows by at most before it is looked at again."""


@dataclass(frozen=True, slots=True)
class Holding:
    """A sequence, by the memory that it takes."""

    length: int
    """Tokens in its cache; while its prompt is computed, all of the prompt."""
    limit: int
    """The most that it can become: prompt and answer."""
    arrived: int
    """Counted up: the higher, the younger. It keeps its number when it is put off."""


Lanes: TypeAlias = Sequence[Sequence[Holding]]
"""What runs: each lane's sequences are one batch."""
Place: TypeAlias = tuple[int, int]
"""A lane, and a sequence's place in it."""


@dataclass(frozen=True, slots=True)
class Admit:
    """It may begin."""

    prefix_bytes: int | None = None
    """Once kept prefixes take no more than this; None: they may stay as they are."""


@dataclass(frozen=True, slots=True)
class Wait:
    """It may not begin yet."""

    reason: str
    """For a person to read."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """It could not even begin alone."""

    reason: str
    """For a person to read."""


Verdict: TypeAlias = Admit | Wait | Refuse


@dataclass(frozen=True, slots=True)
class Relief:
    """What has to happen before the next step."""

    prefix_bytes: int | None = None
    """Kept prefixes may take so much; None: they may stay as they are."""
    preempt: tuple[Place, ...] = ()
    """Those that are put off, youngest first."""


def room_ever(footprint: Footprint, budget: Budget) -> int:
    """How long a sequence may become that has all memory to itself, in tokens; 0: none can."""
    return longest(lambda tokens: _alone(footprint, tokens), budget.kv_bytes)


def prefix_room(
    footprint: Footprint, budget: Budget, lanes: Lanes, ends: bool = False, beside: int = 0
) -> int:
    """Bytes that kept prefixes may take, beside what runs, and `beside` bytes. `ends`: one of those has just
    ended, and is there until what is kept of it is copied; who is alone leaves no batch that would have to be
    made anew."""
    needed = beside + _needed(footprint, lanes, AHEAD)
    if ends and sum(map(len, lanes)) == 1:
        needed -= _copying(footprint, _grown(lanes, AHEAD))
    return _beside(needed, budget)


def admits(
    footprint: Footprint,
    budget: Budget,
    lanes: Lanes,
    lane: int,
    candidate: Holding,
    prefix_bytes: int,
    beside: int = 0,
) -> Verdict:
    """Whether a sequence may begin in a lane, with so many bytes of kept prefixes there. `beside`: bytes that
    something else takes, as long as others run."""
    alone = _alone(footprint, candidate.length)
    if alone > budget.kv_bytes:
        return Refuse(
            f"{candidate.length} tokens need {_size(alone)} of KV cache, and this engine may hold "
            f"{_size(budget.kv_bytes)}: {room_ever(footprint, budget)} tokens at most"
        )
    runs = any(lanes)
    if budget.short and runs:
        return Wait("waits for memory: the machine is short of it, and others are running")
    joined = [(*each, candidate) if place == lane else each for place, each in enumerate(lanes)]
    needed = beside + _needed(footprint, joined, MARGIN)
    if runs and needed > budget.kv_bytes:
        held = beside + _needed(footprint, lanes, 0)
        free = max(budget.kv_bytes - held, 0)
        return Wait(f"waits for memory: needs {_size(needed - held)} of KV cache, {_size(free)} is free")
    return Admit(_cut(prefix_bytes, _beside(needed, budget)))


def pressed(footprint: Footprint, budget: Budget, lanes: Lanes, prefix_bytes: int, beside: int = 0) -> Relief:
    """What the growth of the next step asks for; `beside`: as in `admits`. Who is the last to run goes on
    whatever it takes."""
    left = [list(enumerate(lane)) for lane in lanes]
    preempted: list[Place] = []
    while True:
        needed = beside + _needed(footprint, [[holding for _, holding in lane] for lane in left], AHEAD)
        if needed <= budget.kv_bytes or sum(len(lane) for lane in left) <= 1:
            return Relief(_cut(prefix_bytes, _beside(needed, budget)), tuple(preempted))
        _, lane, place = max(
            (holding.arrived, lane, place) for lane, rows in enumerate(left) for place, holding in rows
        )
        left[lane] = [each for each in left[lane] if each[0] != place]
        preempted.append((lane, place))


def _needed(footprint: Footprint, lanes: Lanes, growth: int) -> int:
    """Bytes once everybody has grown by so many tokens, and to get there: one lane is computed at a time."""
    grown = _grown(lanes, growth)
    return sum(footprint.batch(lengths) for lengths in grown) + _copying(footprint, grown)


def _grown(lanes: Lanes, growth: int) -> list[list[int]]:
    """Everybody's length once it has grown by so many tokens, as far as it may."""
    return [
        [max(holding.length, min(holding.length + growth, holding.limit)) for holding in lane]
        for lane in lanes
    ]


def _copying(footprint: Footprint, lanes: Sequence[Sequence[int]]) -> int:
    return max((footprint.copying(lengths) for lengths in lanes), default=0)


def _alone(footprint: Footprint, tokens: int) -> int:
    return footprint.sequence(tokens) + footprint.copying([tokens])


def _beside(needed: int, budget: Budget) -> int:
    """What is left to kept prefixes."""
    return 0 if budget.short else max(budget.kv_bytes - needed, 0)


def _cut(prefix_bytes: int, most: int) -> int | None:
    return most if prefix_bytes > most else None


def _size(count: int) -> str:
    """Bytes for a person to read, in the units in which memory is sold."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
