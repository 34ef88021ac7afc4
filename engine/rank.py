"""One rank's share of every step: apply the plan, compute, send on; where it samples, tell rank 0."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import mlx.core as mx

from engine.hop import Hop, Parcel
from engine.lane import Aside, Lane, Prompt
from engine.plan import Insertion, Plan, Result
from engine.sampler import Sampler
from engine.stage import Stage

logger = logging.getLogger(__name__)

CLEAR_EVERY: Final = 512
"""Steps after which memory that MLX keeps for reuse is given back, as mlx-lm does it."""

Receive = Callable[[], Parcel]


@dataclass(frozen=True, slots=True)
class Way:
    """Where a rank's parcels go."""

    onward: Hop | None = None
    """To the same place in the next stage; None: this is the last one."""
    beside: Sequence[Hop] = ()
    """To the other ranks of this stage: rank 0 only, which has the plans first."""
    tell: Callable[[Result], None] | None = None
    """What the rank that samples does with a result; None: another rank samples."""


class Rank:
    """Holds this rank's share of all lanes."""

    def __init__(self, stage: Stage, lanes: int, way: Way) -> None:
        self._stage = stage
        self._lanes = [Lane(stage) for _ in range(lanes)]
        self._way = way
        self._aside: dict[int, Aside] = {}
        self._sampler = Sampler() if way.tell else None
        self.steps = 0

    @property
    def busy(self) -> bool:
        """Whether it holds sequences."""
        return any(len(lane) for lane in self._lanes)

    @property
    def kv_bytes(self) -> int:
        return sum(lane.nbytes for lane in self._lanes)

    @property
    def decoding(self) -> int:
        return sum(len(lane.decoding) for lane in self._lanes)

    @property
    def sequences(self) -> int:
        return sum(len(lane) for lane in self._lanes)

    def pass_on(self, header: bytes) -> None:
        """Send a plan, as it came, to the other ranks of this stage."""
        for hop in self._way.beside:
            hop.send(Parcel(header))

    def apply(self, plan: Plan, header: bytes, hidden: mx.array | None, more: Receive) -> None:
        """Carry out a plan. `header` is the plan as it came, `hidden` the hidden states that came with it.
        If it decodes as well as slices, `more` gets those of its slice."""
        lane = self._lanes[plan.lane]
        tokens = self._change(lane, plan)
        first = Parcel(header, hidden)
        if tokens:
            first = self._decode(lane, plan, tokens, first)
        if plan.slice_tokens:
            self._prefill(lane, plan, first, more)
        elif not tokens and self._way.onward:
            self._way.onward.send(Parcel(header))
        self.steps += 1
        if not self.busy or self.steps % CLEAR_EVERY == 0:
            mx.clear_cache()

    def _change(self, lane: Lane, plan: Plan) -> list[int]:
        """Who leaves, rests, comes and joins; returns the tokens that are decoded now."""
        lane.remove(plan.remove)
        for uid in plan.remove:
            self._aside.pop(uid, None)
        for uid in plan.aside:
            self._aside[uid] = lane.put_aside(uid)
        lane.insert([self._begin(insertion) for insertion in plan.insert])
        if self._sampler is not None:
            self._sampler.forget(plan.remove)
            self._sampler.learn(plan.insert)
        return [*plan.tokens, *lane.join(plan.join)]

    def _begin(self, insertion: Insertion) -> Aside:
        if insertion.entry is None:
            return self._aside.pop(insertion.uid)
        return Aside(Prompt(insertion.uid, insertion.entry.tokens), self._stage.fresh())

    def _decode(self, lane: Lane, plan: Plan, tokens: list[int], came: Parcel) -> Parcel:
        """Returns what the step's slice goes with: nothing came for it yet, and the plan is sent on."""
        hidden, logits = lane.decode(tokens, came.hidden)
        if self._way.onward:
            self._way.onward.send(Parcel(came.header, hidden))
        elif self._sampler is not None and self._way.tell:
            result = self._sampler.choose(logits[:, -1, :], tokens, lane.decoding)
            self._way.tell(
                Result(
                    plan.lane,
                    plan.number,
                    result.tokens,
                    result.likely,
                    result.failed,
                    result.vocabulary,
                    done=not plan.slice_tokens,
                )
            )
        else:
            mx.eval(hidden)
        return Parcel(b"")

    def _prefill(self, lane: Lane, plan: Plan, came: Parcel, more: Receive) -> None:
        hidden = came.hidden
        if hidden is None and not self._stage.first:
            hidden = more().hidden
        made = lane.prefill(plan.slice_tokens, hidden)
        if self._way.onward:
            self._way.onward.send(Parcel(came.header, made))
        elif self._way.tell:
            self._way.tell(Result(plan.lane, plan.number, decoded=False))
        mx.clear_cache()
