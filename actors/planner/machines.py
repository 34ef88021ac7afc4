"""Who could take part in running a model, and who could not, and why."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from actors.planner.memory import Room, free_bytes
from actors.planner.words import CACHE_NOT_EXAMINED, NOT_EXAMINED, SHORT_OF_MEMORY, gib
from bus.messages.base import NodeId
from bus.messages.facts import ModelFact, NodeFact, Pressure, Shape
from bus.messages.placement import Interconnect

_BYTES_PER_OPERATION: Final = 0.1
"""Bytes of memory that a machine reads in the time of one f32 operation: 0.03 to 0.2 on those we know."""

_UNMEASURED: Final = 5e10
"""Bytes per second, where nothing is measured: all are alike."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A node that could take part."""

    id: NodeId
    name: str
    room: Room
    rate: float
    """Bytes of weights that it reads per second."""
    rdma: bool
    rdma_problem: str
    pipeline_problem: str
    """Why it can't hold a stage among others; empty: it can."""
    tensor_problem: str
    leads: bool = True
    """It can be rank 0: it has the draft model, where there is to be one."""

    @property
    def free(self) -> int:
        """Bytes."""
        return self.room.free


@dataclass(frozen=True, slots=True)
class Field:
    """The model, and all that could take part."""

    shape: Shape | None
    """None: no node has a model that can be used."""
    context: int | None
    machines: tuple[Machine, ...]
    """By id."""
    problems: Mapping[NodeId, str]
    """Why each of the other nodes can't take part."""
    names: Mapping[NodeId, str]
    """Of every node."""
    cache_problem: str = ""
    """Why the model's KV cache can't have fewer bits; empty: it can."""
    draft: Shape | None = None
    """Of the draft model; None: there is to be none, or it can't be used."""
    draft_problem: str = ""
    """Why it can't."""


def survey(
    facts: Sequence[ModelFact],
    nodes: Sequence[NodeFact],
    promised: Mapping[NodeId, int],
    held: Mapping[NodeId, int],
    drafts: Sequence[ModelFact] | None = None,
) -> Field:
    """Sort the nodes into those that could take part and those that could not.

    `drafts`: the copies of the draft model; None: there is to be none.
    """
    copies = {fact.node: fact for fact in sorted(facts, key=lambda fact: fact.node)}
    names = names_of(nodes)
    wanted = _commonest([fact for fact in copies.values() if fact.shape and not fact.problem])
    machines: list[Machine] = []
    problems: dict[NodeId, str] = {}
    for node in sorted(nodes, key=lambda node: node.id):
        problem = _problem(node, copies.get(node.id), wanted)
        if problem:
            problems[node.id] = problem
            continue
        free = free_bytes(node, promised.get(node.id, 0), held.get(node.id, 0))
        leads = drafts is None or any(fact.node == node.id for fact in drafts if _is_whole(fact))
        room = Room(free, node.kv_memory_bytes)
        machines.append(_machine(node, names[node.id], room, copies, leads=leads))
    if wanted is None:
        return Field(None, None, (), problems, names)
    draft = _commonest([fact for fact in drafts or () if _is_whole(fact)])
    return Field(
        wanted.shape,
        wanted.context,
        tuple(machines),
        problems,
        names,
        cache_problem=_cache_problem(copies.values()),
        draft=draft.shape if draft is not None else None,
        draft_problem=_draft_problem(drafts, machines),
    )


def names_of(nodes: Sequence[NodeFact]) -> dict[NodeId, str]:
    """What people call each node; with a part of its id, where two have the same name."""
    count = Counter(node.name for node in nodes)
    return {node.id: node.name if count[node.name] == 1 else f"{node.name} ({node.id[:8]})" for node in nodes}


def _commonest(facts: Sequence[ModelFact]) -> ModelFact | None:
    """A copy of the version that most nodes have: different ones can't work together."""
    count = Counter(_version(fact) for fact in facts)
    return max(facts, key=lambda fact: count[_version(fact)], default=None)


def _version(fact: ModelFact) -> Shape | None:
    """A shape without what a node has found out about it."""
    if fact.shape is None:
        return None
    return msgspec.structs.replace(
        fact.shape, examined=False, pipeline_problem="", tensor_problem="", kv_quant_problem=""
    )


def _is_whole(fact: ModelFact) -> bool:
    return fact.shape is not None and not fact.problem


def _cache_problem(copies: Iterable[ModelFact]) -> str:
    verdicts = [fact.shape for fact in copies if fact.shape and fact.shape.examined]
    return verdicts[0].kv_quant_problem if verdicts else CACHE_NOT_EXAMINED


def _draft_problem(drafts: Sequence[ModelFact] | None, machines: Sequence[Machine]) -> str:
    if drafts is None or any(machine.leads for machine in machines):
        return ""
    broken = sorted({fact.problem for fact in drafts if fact.problem})
    if broken:
        return f"can't be used: it {broken[0]}"
    return "is on no node that could be rank 0: copy it there" if drafts else "is not here: copy its folder"


def _problem(node: NodeFact, copy: ModelFact | None, wanted: ModelFact | None) -> str:
    if node.leaving:
        return "is about to stop"
    if node.memory.pressure is Pressure.CRITICAL:
        return f"{SHORT_OF_MEMORY} ({gib(node.memory.available_bytes)} available): close something"
    if copy is None:
        return "has no copy of the model"
    if copy.problem or copy.shape is None:
        return f"its copy of the model {copy.problem or 'has no shape that can be read'}"
    if wanted is not None and _version(copy) != _version(wanted):
        return "its copy of the model is another version than that of the other nodes: copy it again"
    return ""


def _machine(
    node: NodeFact, name: str, room: Room, copies: Mapping[NodeId, ModelFact], *, leads: bool
) -> Machine:
    own = copies[node.id].shape
    verdicts = [fact.shape for fact in copies.values() if fact.shape and fact.shape.examined]
    verdict = own if own and own.examined else next(iter(verdicts), None)
    return Machine(
        id=node.id,
        name=name,
        room=room,
        rate=_rate(node),
        rdma=Interconnect.JACCL in node.backends,
        rdma_problem=node.backends_note or "it says nothing of RDMA",
        pipeline_problem=verdict.pipeline_problem if verdict else NOT_EXAMINED,
        tensor_problem=verdict.tensor_problem if verdict else NOT_EXAMINED,
        leads=leads,
    )


def _rate(node: NodeFact) -> float:
    """Decoding reads every weight once per token, so that is what a node's speed is measured by."""
    if node.bandwidth_gb_s > 0:
        return node.bandwidth_gb_s * 1e9
    if node.gigaflops > 0:
        return node.gigaflops * 1e9 * _BYTES_PER_OPERATION
    return _UNMEASURED
