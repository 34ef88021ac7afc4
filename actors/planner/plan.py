"""Ranks the ways to place a model, best first, and says of the others why they are out of the question."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from actors.planner import explain
from actors.planner.grids import (
    Grid,
    allows,
    contradictions,
    heads_problem,
    no_rdma,
    smallest,
    stage_counts,
    tensor_counts,
)
from actors.planner.machines import Field, Machine, survey
from actors.planner.memory import DEFAULT_CONTEXT, Room, contexts, runs
from actors.planner.search import Draft, Search
from actors.planner.speed import Link, Links
from actors.planner.words import NO_COPY
from bus.messages.base import NodeId
from bus.messages.facts import ModelFact, NodeFact, Shape
from bus.messages.placement import Choice, Interconnect, Previews, Ruled, Sharding, Stage, Wish

WORTH_A_NODE: Final = 0.95
"""Another node has to make a stream faster by more than this, since it is also one more that can fail."""

FURTHER_STAGES: Final = 3
"""How many counts of stages are shown, from the smallest that fits: more only make a stream slower."""

WIDEST: Final = 8
"""Tensor ranks whose heads are looked at when nobody asks for a number."""

RDMA_NODES: Final = 2
"""jaccl connects more, but which device leads to which node is only known between two."""

_NOTHING: Final[Mapping[NodeId, int]] = {}
_UNMEASURED: Final[Mapping[tuple[NodeId, NodeId], Link]] = {}


def plan(
    wish: Wish,
    model_facts: Sequence[ModelFact],
    nodes: Sequence[NodeFact],
    promised: Mapping[NodeId, int] = _NOTHING,
    links: Mapping[tuple[NodeId, NodeId], Link] = _UNMEASURED,
    held: Mapping[NodeId, int] = _NOTHING,
    draft_facts: Sequence[ModelFact] = (),
) -> Previews:
    """All sensible ways to place `wish`, best first, with what is ruled out and why.

    `model_facts`: one for each node that has the model. `promised`: bytes that are declared on a node but
    not in use yet; `held`: bytes that placed models have in use there, which count against the limit of its
    accelerator. `links` holds measured paths; others are taken for a local network. `draft_facts`:
    as `model_facts`, of the wish's draft model.
    What a wish fixes is kept (a context, up to what the model was made for); where that is impossible there
    are no choices, and the reason is in `ruled_out` with the wish's field as `what`.
    """
    field = survey(model_facts, nodes, promised, held, draft_facts if wish.draft is not None else None)
    ruled = [Ruled(f"node {field.names[node]}", problem) for node, problem in field.problems.items()]
    if field.shape is None:
        broken = sorted({fact.problem for fact in model_facts if fact.problem})
        why = f"can't be used: it {broken[0]}" if broken else NO_COPY
        return Previews((), (Ruled("model", why), *ruled))
    if found := contradictions(wish, field.shape, field):
        return Previews((), found)
    planner = _Planner(wish, field, field.shape, Links(links))
    drafts = planner.drafts()
    starved = () if drafts else tuple(_starved(wish, field, field.shape, Links(links)))
    choices = tuple(planner.choice(draft) for draft in sorted(drafts, key=planner.rank))
    return Previews(choices, (*starved, *planner.ruled_out(), *ruled))


def _starved(wish: Wish, field: Field, shape: Shape, links: Links) -> Iterator[Ruled]:
    """Whether a wish fails for the KV cache that it, or a node, allows, and would fit without that."""

    def longest(wish: Wish, field: Field) -> int | None:
        drafts = _Planner(wish, field, shape, links).drafts()
        return max((draft.context for draft in drafts), default=None)

    context = contexts(field.context, wish.context)[-1]
    open_wish, any_context = replace(wish, kv_bytes=None), replace(wish, context=None)
    if wish.kv_bytes is not None and longest(open_wish, field) is not None:
        yield explain.starved(wish, context, longest(any_context, field))
    elif any(machine.room.cache is not None for machine in field.machines):
        machines = tuple(dataclasses.replace(machine, room=Room(machine.free)) for machine in field.machines)
        if longest(open_wish, dataclasses.replace(field, machines=machines)) is not None:
            bits = wish.kv_bits is None and not field.cache_problem
            yield explain.limited(field.machines, context, longest(any_context, field), bits=bits)


class _Planner:
    """One run of `plan`, which notes on the way what is ruled out."""

    def __init__(self, wish: Wish, field: Field, shape: Shape, links: Links) -> None:
        self._wish, self._field, self._shape = wish, field, shape
        self._search = Search(wish, shape, field.context, links, field.draft)
        self._single: Draft | None = None
        self._ruled: list[Ruled] = []
        self._aside: list[Ruled] = []

    def ruled_out(self) -> tuple[Ruled, ...]:
        """What was ruled out, each once, and what says least at the end."""
        return tuple(dict.fromkeys([*self._ruled, *self._aside]))

    def drafts(self) -> list[Draft]:
        """The best of each kind: on each node alone, and on each grid of several."""
        ways = [self._wish.interconnect] if self._wish.interconnect else list(Interconnect)
        drafts: list[Draft] = []
        for way in ways:
            machines = self._connected(way)
            if way is ways[0]:
                drafts += self._singles(machines, way)
                self._single = max(drafts, key=lambda draft: draft.score, default=None)
                self._rule_out_too_few(len(machines))
            drafts += self._divided(machines, way)
        return drafts

    def rank(self, draft: Draft) -> tuple[bool, float, int, list[NodeId], Interconnect]:
        """Sorts the best first. A context that is short for lack of memory comes after any that is not."""
        size = draft.grid.size
        cramped = draft.context < min(self._search.contexts[0], DEFAULT_CONTEXT)
        ids = [machine.id for group in draft.groups for machine in group]
        return cramped, -draft.score * WORTH_A_NODE ** (size - 1), size, ids, draft.interconnect

    def choice(self, draft: Draft) -> Choice:
        """A draft as others see it."""
        needs = self._search.needs(draft.context, draft.grid.tensor)
        stages = tuple(
            Stage(first, end, tuple(machine.id for machine in group), needs.stage(first, end))
            for group, (first, end) in zip(draft.groups, runs(draft.layers), strict=True)
        )
        why = explain.described(draft, self._search.contexts[0], self._compared(draft))
        return Choice(stages, draft.grid.sharding, draft.interconnect, draft.context, draft.score, why)

    # -- who ---------------------------------------------------------------------------------------

    def _connected(self, way: Interconnect) -> tuple[Machine, ...]:
        """Who can be reached in this way; in the wish's order, where it has one."""
        machines = {machine.id: machine for machine in self._field.machines}
        chosen = [machines[node] for node in self._wish.nodes] or list(self._field.machines)
        if way is not Interconnect.JACCL:
            return tuple(chosen)
        without = [machine for machine in chosen if not machine.rdma]
        reasons = [Ruled("jaccl", no_rdma(one.name, one.rdma_problem)) for one in without]
        if self._wish.interconnect is way:
            self._ruled += reasons
        elif len(chosen) > 1:
            self._aside += reasons
        return () if without and self._wish.nodes else tuple(one for one in chosen if one.rdma)

    def _rule_out_too_few(self, nodes: int) -> None:
        least = smallest(self._wish)
        if least > nodes:
            self._ruled.append(Ruled("what is asked for", f"takes {least} nodes, and {nodes} can take part"))

    def _willing(self, machines: Sequence[Machine], divides: bool, stages: bool) -> list[Machine]:
        """Those whose MLX can divide the model's layers, or run stages of it; of the others is said why."""
        willing = []
        for machine in machines:
            if divides and machine.tensor_problem:
                self._ruled.append(Ruled("dividing its layers", machine.tensor_problem))
            elif stages and machine.pipeline_problem:
                self._ruled.append(Ruled("dividing it into stages", machine.pipeline_problem))
            else:
                willing.append(machine)
        return [] if self._wish.nodes and len(willing) < len(machines) else willing

    # -- how ---------------------------------------------------------------------------------------

    def _singles(self, machines: Sequence[Machine], way: Interconnect) -> Iterator[Draft]:
        alone = Grid(1, 1)
        largest_first = sorted(machines, key=lambda machine: -machine.free)
        reasons = []
        for machine in largest_first if allows(self._wish, alone) else ():
            draft = self._search.best(alone, [machine], way) if machine.leads else None
            if not machine.leads:
                reasons.append(Ruled(f"{machine.name} alone", f"has no copy of {self._wish.draft}"))
            elif draft is not None:
                yield draft
            else:
                reasons.append(Ruled(f"{machine.name} alone", self._too_large(machine)))
        self._ruled += reasons[:1]
        self._aside += reasons[1:]

    def _divided(self, machines: Sequence[Machine], way: Interconnect) -> Iterator[Draft]:
        if len(machines) < 2:
            return
        self._rule_out_by_heads(len(machines))
        for tensor in tensor_counts(self._wish, self._shape, len(machines)):
            counts = stage_counts(self._wish, self._shape, len(machines), tensor)
            if tensor > 1 and 1 in counts:
                yield from self._shown([1], tensor, self._willing(machines, True, False), way)
            if several := [count for count in counts if count > 1]:
                yield from self._shown(several, tensor, self._willing(machines, tensor > 1, True), way)

    def _shown(
        self, counts: list[int], tensor: int, pool: Sequence[Machine], way: Interconnect
    ) -> Iterator[Draft]:
        """The smallest counts of stages that fit."""
        if pool and not any(machine.leads for machine in pool):
            self._aside.append(Ruled("draft", f"{self._wish.draft} is on none of the nodes that could share"))
            return
        most = min(len(pool), RDMA_NODES if way is Interconnect.JACCL else len(pool)) // tensor
        shown = 0
        for stages in counts:
            draft = self._search.best(Grid(stages, tensor), pool, way) if stages <= most else None
            if draft is not None:
                yield draft
                shown += 1
            if shown == FURTHER_STAGES:
                return
        largest = Grid(min(counts[-1], most), tensor)
        if shown == 0 and largest.stages >= counts[0]:
            needs = self._search.needs(self._search.contexts[-1], tensor)
            self._ruled.append(explain.too_little(largest, pool, needs))
        elif shown == 0 and self._wish.interconnect is way and len(pool) >= counts[0] * tensor:
            self._ruled.append(
                Ruled(
                    "jaccl", f"which device leads to which node is known between {RDMA_NODES} nodes at most"
                )
            )

    def _rule_out_by_heads(self, nodes: int) -> None:
        if self._wish.sharding is Sharding.PIPELINE or self._wish.tensor is not None:
            return
        for count in range(2, min(nodes, WIDEST) + 1):
            if problem := heads_problem(self._shape, count):
                self._aside.append(Ruled(f"tensor over {count}", problem))

    # -- why ---------------------------------------------------------------------------------------

    def _compared(self, draft: Draft) -> str:
        """A division beside what one node can do; nothing, where the wish has several nodes anyway."""
        if draft.grid.size == 1 or not allows(self._wish, Grid(1, 1)):
            return ""
        if self._single is not None:
            return explain.compared(draft, self._single)
        roomiest = max(self._field.machines, key=lambda machine: machine.free)
        return f"{roomiest.name} alone {self._too_large(roomiest)}"

    def _too_large(self, machine: Machine) -> str:
        return explain.too_large(machine, self._search.needs(self._search.contexts[-1], 1))
