"""Stages times tensor ranks: what a wish allows, and where it contradicts itself or the model."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from actors.planner.machines import Field
from actors.planner.memory import KV_BITS
from bus.messages.facts import Shape
from bus.messages.placement import Interconnect, Ruled, Sharding, Wish

PADDING: Final = 1024
"""Tables of the same tokens differ by fewer rows."""


@dataclass(frozen=True, slots=True)
class Grid:
    """So many stages of so many tensor ranks."""

    stages: int
    tensor: int

    @property
    def size(self) -> int:
        """How many nodes it takes."""
        return self.stages * self.tensor

    @property
    def sharding(self) -> Sharding:
        """What this is called."""
        if self.tensor == 1:
            return Sharding.PIPELINE
        return Sharding.TENSOR if self.stages == 1 else Sharding.HYBRID


def heads_problem(shape: Shape, tensor: int) -> str:
    """Why a model's heads can't be shared out among so many ranks; empty: they can."""
    if shape.kv_heads % tensor:
        return f"{shape.kv_heads} KV heads can't be divided by {tensor}"
    if shape.heads % tensor:
        return f"{shape.heads} attention heads can't be divided by {tensor}"
    return ""


def tensor_counts(wish: Wish, shape: Shape, nodes: int) -> list[int]:
    """How many ranks a stage may have under a wish, with so many nodes to choose from; fewest first."""
    return [
        count
        for count in range(1, nodes + 1)
        if not heads_problem(shape, count) and stage_counts(wish, shape, nodes, count)
    ]


def stage_counts(wish: Wish, shape: Shape, nodes: int, tensor: int) -> list[int]:
    """How many stages of so many ranks there may be; fewest first."""
    possible = range(1, min(len(shape.layer_bytes), nodes // tensor) + 1)
    return [stages for stages in possible if allows(wish, Grid(stages, tensor))]


def allows(wish: Wish, grid: Grid) -> bool:
    """Whether a wish leaves room for this grid."""
    return (
        wish.stages in (None, grid.stages)
        and wish.tensor in (None, grid.tensor)
        and wish.sharding in (None, grid.sharding)
        and len(wish.layers) in (0, grid.stages)
        and len(wish.nodes) in (0, grid.size)
    )


def smallest(wish: Wish) -> int:
    """How many nodes a wish takes at least."""
    stages = len(wish.layers) or wish.stages or (2 if wish.sharding is Sharding.HYBRID else 1)
    divided = wish.sharding in (Sharding.TENSOR, Sharding.HYBRID)
    return stages * (wish.tensor or (2 if divided else 1))


def contradictions(wish: Wish, shape: Shape, field: Field) -> tuple[Ruled, ...]:
    """Where a wish can't be met, whatever is chosen for the rest of it. `what` is the wish's field."""
    found = [*_too_small(wish), *_numbers(wish, len(shape.layer_bytes)), *_sharding(wish)]
    if wish.tensor is not None and wish.tensor > 1 and (problem := heads_problem(shape, wish.tensor)):
        found.append(Ruled("tensor", problem))
    found += _nodes(wish, field)
    found += _cache_bits(wish, field)
    found += _draft(wish, shape, field)
    return tuple(found)


def _too_small(wish: Wish) -> Iterator[Ruled]:
    for name in ("stages", "tensor", "context", "kv_bytes"):
        value: int | None = getattr(wish, name)
        if value is not None and value < 1:
            yield Ruled(name, f"{value} is too small: at least 1")
    if any(count < 1 for count in wish.layers):
        yield Ruled("layers", "each stage has at least one layer")


def _numbers(wish: Wish, layers: int) -> Iterator[Ruled]:
    stages, ranks, nodes = wish.stages, wish.tensor or 0, len(wish.nodes)
    if wish.layers and sum(wish.layers) != layers:
        yield Ruled("layers", f"they add up to {sum(wish.layers)}, and the model has {layers}")
    if wish.layers and stages is not None and stages != len(wish.layers):
        yield Ruled("layers", f"they are given for {len(wish.layers)} stages, and {stages} are asked for")
    if stages is not None and stages > layers:
        yield Ruled("stages", f"{stages} are more than the model's {layers} layers")
    if wish.layers:
        stages = len(wish.layers)
    if nodes and stages is not None and ranks > 0 and nodes != stages * ranks:
        yield Ruled("nodes", f"{nodes} are given, and {stages} stages of {ranks} take {stages * ranks}")
    elif nodes and stages is not None and stages > 0 and nodes % stages:
        yield Ruled("nodes", f"{nodes} can't be divided into {stages} stages of equally many")
    elif nodes and ranks > 0 and nodes % ranks:
        yield Ruled("nodes", f"{nodes} can't be divided into stages of {ranks}")


def _sharding(wish: Wish) -> Iterator[Ruled]:
    stages = len(wish.layers) or wish.stages
    match wish.sharding:
        case Sharding.PIPELINE if wish.tensor is not None and wish.tensor > 1:
            yield Ruled("sharding", f"a pipeline has one rank per stage, and {wish.tensor} are asked for")
        case Sharding.PIPELINE if stages is not None and wish.nodes and len(wish.nodes) != stages:
            yield Ruled("sharding", f"a pipeline of {stages} stages takes {stages} nodes, one for each")
        case Sharding.TENSOR if stages is not None and stages > 1:
            yield Ruled("sharding", f"tensor means one stage, and {stages} are asked for: hybrid has several")
        case Sharding.HYBRID if stages == 1:
            yield Ruled("sharding", "hybrid means several stages, and one is asked for: tensor has one")
        case Sharding.HYBRID if wish.nodes and len(wish.nodes) < 4:
            yield Ruled("sharding", f"hybrid takes 4 nodes at least, and {len(wish.nodes)} are given")
        case Sharding.TENSOR if len(wish.nodes) == 1:
            yield Ruled("sharding", "tensor takes 2 nodes at least, and 1 is given")
        case Sharding.TENSOR | Sharding.HYBRID if wish.tensor == 1:
            yield Ruled("sharding", f"{wish.sharding} means several ranks per stage, and one is asked for")
        case _:
            pass


def _nodes(wish: Wish, field: Field) -> Iterator[Ruled]:
    machines = {machine.id: machine for machine in field.machines}
    for place, node in enumerate(wish.nodes):
        if node in wish.nodes[:place]:
            yield Ruled("nodes", f"{field.names.get(node, node)} is given twice")
        elif node not in field.names:
            yield Ruled("nodes", f"there is no node {node}: GET /v1/nodes lists those that are here")
        elif node in field.problems:
            yield Ruled("nodes", f"{field.names[node]} can't take part: {field.problems[node]}")
        elif wish.interconnect is Interconnect.JACCL and not machines[node].rdma:
            yield Ruled("interconnect", "jaccl: " + no_rdma(field.names[node], machines[node].rdma_problem))


def _cache_bits(wish: Wish, field: Field) -> Iterator[Ruled]:
    if wish.kv_bits is None:
        return
    if wish.kv_bits not in KV_BITS:
        yield Ruled("kv_bits", f"{wish.kv_bits} bits are not possible: {' or '.join(map(str, KV_BITS))} are")
    elif field.cache_problem:
        yield Ruled("kv_bits", field.cache_problem)


def _draft(wish: Wish, shape: Shape, field: Field) -> Iterator[Ruled]:
    if wish.draft is None:
        return
    leading = {machine.id for machine in field.machines if machine.leads}
    if wish.draft == wish.model:
        yield Ruled("draft", "a model can't guess for itself: take a smaller one")
    elif field.draft_problem:
        yield Ruled("draft", f"{wish.draft} {field.draft_problem}")
    elif field.draft is not None and (problem := _vocabulary_problem(shape, field.draft)):
        yield Ruled("draft", f"{wish.draft} {problem}")
    elif wish.nodes and wish.nodes[0] in field.names and wish.nodes[0] not in leading:
        name = field.names[wish.nodes[0]]
        yield Ruled("draft", f"{name}, which is to be rank 0, has no copy of {wish.draft}: copy it there")


def _vocabulary_problem(shape: Shape, draft: Shape) -> str:
    """Tables of tokens are filled up to round numbers, so that nearly equal ones may well be of the same
    tokens: the engine compares those."""
    own, its = shape.vocabulary, draft.vocabulary
    if own is None or its is None or abs(own - its) < PADDING:
        return ""
    return f"has a vocabulary of {its} tokens, and the model one of {own}: they have to be the same"


def no_rdma(name: str, problem: str) -> str:
    """Why jaccl is out of the question with a node."""
    return f"{name} has no RDMA: {problem}"
