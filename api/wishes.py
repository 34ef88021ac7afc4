"""From a body or a query to a Wish: names of nodes become ids, words become what they stand for. Pure."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, TypeAlias, TypeVar

from msgspec import Meta, Struct

from actors.planner.machines import names_of
from actors.planner.memory import KV_BITS
from api.errors import invalid
from api.schema import INT32_MAX, Name
from bus.messages.base import ModelId, NodeId
from bus.messages.facts import NodeFact
from bus.messages.placement import Interconnect, Sharding, Wish

Word = TypeVar("Word", bound=StrEnum)

MAX_REPLICAS = 64
INT64_MAX = 2**63 - 1

Several: TypeAlias = Annotated[int, Meta(ge=1, le=100_000)]
"""Nodes, stages or layers."""


class PlacementBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/instances`: what is left out is chosen, so that a misspelt field has to be refused."""

    model: Name
    sharding: str | None = None
    interconnect: str | None = None
    nodes: list[str] | None = None
    """Names or ids, in rank order."""
    layers: list[Several] | None = None
    """Of each stage."""
    stages: Several | None = None
    tensor: Several | None = None
    """Ranks per stage."""
    context: Annotated[int, Meta(ge=1, le=INT32_MAX)] | None = None
    kv_bits: int | None = None
    """The KV cache is kept with so many bits, 8 or 4; null: as it is computed."""
    kv_bytes: Annotated[int, Meta(ge=1, le=INT64_MAX)] | None = None
    """KV cache on each node at most."""
    draft: Name | None = None
    """A small model with the same tokens that guesses ahead."""
    speculate: bool | None = None
    """Whether tokens are guessed ahead while that pays; null: they are."""
    replicas: Annotated[int, Meta(ge=1, le=MAX_REPLICAS)] | None = None
    dry_run: bool | None = None


QUERY = tuple(name for name in PlacementBody.__struct_fields__ if name not in ("replicas", "dry_run"))
"""What `GET /v1/instances/previews` takes; lists are separated by commas."""


def wish_of(body: PlacementBody, nodes: Sequence[NodeFact]) -> Wish:
    """What a body asks for, among these nodes. Raises ApiError 400."""
    return Wish(
        model=ModelId(body.model),
        sharding=_word("sharding", body.sharding, Sharding),
        interconnect=_word("interconnect", body.interconnect, Interconnect),
        nodes=tuple(node_named(name, nodes) for name in body.nodes or ()),
        layers=tuple(body.layers or ()),
        stages=body.stages,
        tensor=body.tensor,
        context=body.context,
        kv_bits=_bits(body.kv_bits),
        kv_bytes=body.kv_bytes,
        draft=ModelId(body.draft) if body.draft is not None else None,
        speculate=body.speculate is not False,
    )


def body_of(query: Mapping[str, str]) -> PlacementBody:
    """What a query asks for; raises ApiError 400. An empty parameter is none."""
    for name in query:
        if name not in QUERY:
            raise invalid(f"There is no parameter '{name}' here.", name, "unknown_parameter")
    given = {name: text.strip() for name, text in query.items() if text.strip()}
    if "model" not in given:
        raise invalid("Missing required parameter 'model'.", "model", "missing_required_parameter")
    return PlacementBody(
        model=given["model"],
        sharding=given.get("sharding"),
        interconnect=given.get("interconnect"),
        nodes=_parts(given.get("nodes", "")),
        layers=[_count("layers", part) for part in _parts(given.get("layers", ""))],
        stages=_optional_count("stages", given),
        tensor=_optional_count("tensor", given),
        context=_optional_count("context", given),
        kv_bits=None if given.get("kv_bits") == "null" else _optional_count("kv_bits", given),
        kv_bytes=_optional_count("kv_bytes", given, INT64_MAX),
        draft=given.get("draft"),
        speculate=_flag("speculate", given.get("speculate")),
    )


def node_named(name: str, nodes: Sequence[NodeFact]) -> NodeId:
    """The node of that id, else of that name. Raises ApiError 400 when there is none, or more than one."""
    names = names_of(nodes)
    for node, told_apart in names.items():
        if name in (node, told_apart):
            return node
    found = sorted(node.id for node in nodes if node.name == name)
    if found:
        raise invalid(f"Several nodes are called '{name}': give an id ({', '.join(found)}).", "nodes")
    known = ", ".join(sorted(names.values())) or "none yet"
    raise invalid(f"There is no node '{name}' in the cluster; there are: {known}.", "nodes")


def _word(param: str, text: str | None, kind: type[Word]) -> Word | None:
    if text is None:
        return None
    if text not in list(kind):
        raise invalid(f"Invalid '{param}': '{text}' is none of {', '.join(kind)}.", param)
    return kind(text)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _optional_count(param: str, given: Mapping[str, str], most: int = INT32_MAX) -> int | None:
    return _count(param, given[param], most) if param in given else None


def _count(param: str, text: str, most: int = INT32_MAX) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 19 or not 1 <= int(text) <= most:
        raise invalid(f"Invalid '{param}': '{text}' is not a whole number above 0.", param)
    return int(text)


def _bits(bits: int | None) -> int | None:
    if bits is not None and bits not in KV_BITS:
        few = " or ".join(map(str, KV_BITS))
        raise invalid(f"Invalid 'kv_bits': {bits}; use {few}, or null for as it is computed.", "kv_bits")
    return bits


def _flag(param: str, text: str | None) -> bool | None:
    if text not in (None, "true", "false"):
        raise invalid(f"Invalid '{param}': '{text}' is none of true, false.", param)
    return None if text is None else text == "true"
