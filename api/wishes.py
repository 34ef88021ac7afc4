"""From a body or a query to a Wish: names of nodes become ids, words become what they stand for. Pure."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TypeVar

from actors.planner.machines import names_of
from api.errors import invalid
from api.schema import INT32_MAX, PlacementBody
from bus.messages.base import ModelId, NodeId
from bus.messages.facts import NodeFact
from bus.messages.placement import Interconnect, Sharding, Wish

Word = TypeVar("Word", bound=StrEnum)

QUERY = ("model", "sharding", "interconnect", "nodes", "layers", "stages", "tensor", "context")
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


def _optional_count(param: str, given: Mapping[str, str]) -> int | None:
    return _count(param, given[param]) if param in given else None


def _count(param: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 10 or not 1 <= int(text) <= INT32_MAX:
        raise invalid(f"Invalid '{param}': '{text}' is not a whole number above 0.", param)
    return int(text)
