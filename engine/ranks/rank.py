"""One rank's share of every step: apply the plan, compute, send on; where it samples, tell rank 0."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import mlx.core as mx

from engine.constraints.grammars import Grammars
from engine.memory.caches import Cache
from engine.memory.footprint import Footprint
from engine.prefixes.disk import Shelf
from engine.ranks.hop import Hop, Parcel
from engine.ranks.lane import Aside, Lane, Prompt
from engine.ranks.pool import Pools
from engine.ranks.store import Store
from engine.sampling.sampler import Sampler
from engine.sharding.stage import Stage
from engine.steps.entry import Sliced
from engine.steps.plan import Insertion, Plan, Result
from models.pooling import Pooling

logger = logging.getLogger(__name__)

CLEAR_EVERY: Final = 512
"""Steps after which memory that MLX keeps for reuse is given back, as mlx-lm does it."""

Receive = Callable[[], Parcel]


@dataclass(frozen=True, slots=True)
class Begun:
    """A plan whose tokens are chosen, and whose slice is not computed yet."""

    plan: Plan
    parcel: Parcel
    """What the slice goes with."""
    decoded: bool


@dataclass(frozen=True, slots=True)
class Way:
    """Where a rank's parcels go."""

    onward: Hop | None = None
    """To the same place in the next stage; None: this is the last one."""
    beside: Sequence[Hop] = ()
    """To the other ranks of this stage: rank 0 only, which has the plans first."""
    tell: Callable[[Result], None] | None = None
    """What the rank that samples does with a result; None: another rank samples."""


@dataclass(frozen=True, slots=True)
class Equipment:
    """What some ranks have besides their layers."""

    grammars: Grammars | None = None
    """Where tokens are chosen: makes what answers are held to."""
    pooling: Pooling | None = None
    """How the model makes an embedding, if it was made for that."""
    shelf: Shelf | None = None
    """Where kept prefixes outlive the process, if they do."""


class Rank:
    """Holds this rank's share of all lanes, and of what is kept for later prompts."""

    def __init__(self, stage: Stage, lanes: int, way: Way, equipment: Equipment) -> None:
        self._stage = stage
        self._lanes = [Lane(stage) for _ in range(lanes)]
        self._way = way
        self._aside: dict[int, Aside] = {}
        self._sampler = Sampler(equipment.grammars) if way.tell else None
        self.embeds = equipment.pooling is not None
        self._pools = Pools(equipment.pooling) if way.tell and equipment.pooling else None
        self.store = Store(stage.fresh, equipment.shelf)
        self.steps = 0

    @property
    def busy(self) -> bool:
        """Whether it holds sequences."""
        return any(len(lane) for lane in self._lanes)

    @property
    def kv_bytes(self) -> int:
        """What is kept for later prompts is among it."""
        aside = sum(cache.nbytes for each in self._aside.values() for cache in each.caches)
        return sum(lane.nbytes for lane in self._lanes) + aside + self.store.nbytes

    @property
    def decoding(self) -> int:
        return sum(len(lane.decoding) for lane in self._lanes)

    @property
    def sequences(self) -> int:
        return sum(len(lane) for lane in self._lanes)

    def footprint(self) -> Footprint:
        """Of sequences, on this rank; measured on those that it holds."""
        return next(Footprint.of(lane.caches) for lane in self._lanes if len(lane))

    def pass_on(self, header: bytes) -> None:
        """Send a plan, as it came, to the other ranks of this stage."""
        for hop in self._way.beside:
            hop.send(Parcel(header))

    def apply(self, plan: Plan, header: bytes, hidden: mx.array | None, more: Receive) -> None:
        """Carry out a plan. `header` is the plan as it came, `hidden` the hidden states that came with it.
        If it decodes as well as slices, `more` gets those of its slice."""
        self.finish(self.begin(plan, header, hidden), more)

    def begin(self, plan: Plan, header: bytes, hidden: mx.array | None) -> Begun:
        """As `apply`, up to where its tokens are chosen and sent on."""
        lane = self._lanes[plan.lane]
        self._change(lane, plan)
        came = Parcel(header, hidden)
        decodes = bool(plan.tokens or plan.join)
        if decodes:
            came = self._check(lane, plan, came) if plan.guesses else self._decode(lane, plan, came)
        return Begun(plan, came, decodes)

    def finish(self, begun: Begun, more: Receive) -> None:
        """The rest of it."""
        plan = begun.plan
        if plan.slice_tokens:
            self._prefill(self._lanes[plan.lane], plan, begun.parcel, more)
        elif not begun.decoded and self._way.onward:
            self._way.onward.send(Parcel(begun.parcel.header))
        self.steps += 1
        if not self.busy or self.steps % CLEAR_EVERY == 0:
            mx.clear_cache()

    # -- who is in it ----------------------------------------------------------------------------

    def _change(self, lane: Lane, plan: Plan) -> None:
        """What is forgotten and kept; who leaves, rests and comes."""
        lane.forget(plan.rejected)
        for order in plan.store:
            self.store.carry_out(order, self._find)
        lane.remove(plan.remove)
        for uid in plan.remove:
            self._aside.pop(uid, None)
            self.store.leave(uid)
        for uid in plan.aside:
            self._aside[uid] = lane.put_aside(uid)
        lane.insert([self._begin(insertion) for insertion in plan.insert])
        if self._sampler is not None:
            self._sampler.forget(plan.remove)
            self._sampler.learn(plan.insert)
        if self._pools is not None:
            self._pools.forget(plan.remove)

    def _find(self, uid: int) -> tuple[Sequence[Cache], int]:
        return next(lane.find(uid) for lane in self._lanes if uid in lane)

    def _begin(self, insertion: Insertion) -> Aside:
        uid, entry = insertion.uid, insertion.entry
        if entry is None:
            return self._aside.pop(uid)
        fetched = self.store.take(uid)
        if fetched is None:
            return Aside(Prompt(uid, entry), self._stage.fresh())
        return Aside(Prompt(uid, entry, fetched.length), fetched.caches)

    # -- tokens ----------------------------------------------------------------------------------

    def _decode(self, lane: Lane, plan: Plan, came: Parcel) -> Parcel:
        """Returns what the step's slice goes with: nothing came for it yet, and the plan is sent on."""
        tokens, hidden, logits = lane.decode(plan.join, plan.tokens, came.hidden)
        if self._way.onward:
            self._way.onward.send(Parcel(came.header, hidden))
        elif self._sampler is not None and self._way.tell:
            choice = self._sampler.choose(logits[:, -1, :], tokens, lane.decoding)
            if plan.ahead:
                lane.go_ahead(choice.tokens)
            self._way.tell(self._sampler.read(choice, plan))
        else:
            self._take_part(hidden, logits)
        return Parcel(b"")

    def _check(self, lane: Lane, plan: Plan, came: Parcel) -> Parcel:
        """As `_decode`, with guesses of what follows."""
        hidden, logits = lane.check(plan.tokens, plan.guesses, came.hidden)
        if self._way.onward:
            self._way.onward.send(Parcel(came.header, hidden))
        elif self._sampler is not None and self._way.tell:
            self._way.tell(self._sampler.check(logits, plan, lane.decoding))
        else:
            self._take_part(hidden, logits)
        return Parcel(b"")

    def _take_part(self, hidden: mx.array, logits: mx.array) -> None:
        """Compute with the others of a tensor group, of which another one chooses."""
        mx.eval(logits if self._stage.shares_head else hidden)

    # -- prompts ---------------------------------------------------------------------------------

    def _prefill(self, lane: Lane, plan: Plan, came: Parcel, more: Receive) -> None:
        hidden = came.hidden
        if hidden is None and not self._stage.first:
            hidden = more().hidden
        slices = lane.slices(plan.slice_tokens)
        made, logits, normed = lane.prefill(slices, hidden)
        if self._way.onward:
            self._way.onward.send(Parcel(came.header, made))
        elif self._way.tell:
            self._way.tell(self._sliced(plan, slices, logits, normed, lane.slice_s))
        mx.clear_cache()

    def _sliced(
        self,
        plan: Plan,
        slices: Sequence[Sliced],
        logits: mx.array,
        normed: mx.array | None,
        slice_s: float | None,
    ) -> Result:
        assert self._sampler is not None
        prompts = self._sampler.prompts(slices, logits)
        vectors = self._pools.take(slices, normed) if self._pools is not None and normed is not None else ()
        return Result(
            plan.lane, plan.number, decoded=False, prompts=prompts, vectors=vectors, slice_s=slice_s
        )
