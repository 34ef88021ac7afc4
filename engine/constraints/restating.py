"""What llguidance has no words for in a JSON schema, said in words that it has where that is the same.

Some of it takes one alternative for each of several ways: what takes too many is left as it is, for the
library to refuse.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, permutations
from typing import Final, cast

from engine.constraints.errors import GrammarError
from engine.constraints.parts import Schema, rebuilt

MOST_WAYS: Final = 200
"""Alternatives that one schema's restatements have together."""

_COMBINED: Final = frozenset(
    {
        *("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "$ref", "$dynamicRef", "$recursiveRef"),
        *("dependentSchemas", "dependentRequired", "dependencies"),
    }
)
"""With one of these, a schema does not say all of its properties itself."""

_SHARED: Final = ("$defs", "definitions", "$schema", "$id", "x-guidance")
"""What stands once, however many ways there are."""

_SAYS_NOTHING: Final = frozenset({"password", "binary", "path", "file-path", "directory-path"})
"""Formats of OpenAPI and Pydantic that any text has."""

_HEX: Final = "[0-9a-fA-F]"
_POINTER: Final = "(/([^~/]|~[01])*)*"
_PATTERNS: Final[Mapping[str, str]] = {
    "json-pointer": f"^{_POINTER}$",
    "relative-json-pointer": f"^(0|[1-9][0-9]*)(#|{_POINTER})$",
    **dict.fromkeys(("byte", "base64"), "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"),
    "base64url": "^([A-Za-z0-9_-]{4})*([A-Za-z0-9_-]{2}(==)?|[A-Za-z0-9_-]{3}=?)?$",
    **{
        f"uuid{version}": f"^{_HEX}{{8}}-{_HEX}{{4}}-{version}{_HEX}{{3}}-[89abAB]{_HEX}{{3}}-{_HEX}{{12}}$"
        for version in range(1, 9)
    },
}
"""Formats that are regular: RFC 6901, RFC 4648, RFC 9562, and a draft of relative JSON pointers."""


def restated(schema: Schema) -> Schema:
    """The same schema, as far as it can be said. Raises GrammarError for what no value can be."""
    return rebuilt(schema, _Restating(schema).restate)


class _Restating:
    """Of one schema, with all that it is made of."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._ways = 0

    def restate(self, schema: Schema) -> Schema:
        """One that is a part of it; its own parts are restated."""
        for step in (_evaluated, _formatted, self._named, self._dependent, self._counted, self._distinct):
            schema = step(schema)
        return schema

    # -- properties ------------------------------------------------------------------------------

    def _named(self, schema: Schema) -> Schema:
        """`propertyNames`, where it lists the names or says what they look like."""
        if "propertyNames" not in schema or "patternProperties" in schema or _COMBINED & set(schema):
            return schema
        names = self._resolved(schema["propertyNames"])
        rest = _without(schema, "propertyNames")
        said = {key for key in names if key not in ("title", "description", "type")}
        others = schema.get("additionalProperties", True)
        described = _properties(schema)
        if names.get("type", "string") != "string" or not isinstance(schema["propertyNames"], dict):
            return schema
        if not said:
            return rest
        if said <= {"enum", "const"}:
            listed = [name for name in _values(names) or () if isinstance(name, str)]
            properties = {name: described.get(name, others) for name in listed}
            return {**rest, "properties": properties, "additionalProperties": False}
        if said == {"pattern"} and not described:
            return {**rest, "patternProperties": {names["pattern"]: others}, "additionalProperties": False}
        return schema

    def _dependent(self, schema: Schema) -> Schema:
        """`dependentRequired`: a property is there with those that it needs, or is not there."""
        needs = schema.get("dependentRequired", {})
        old = schema.get("dependencies", {})
        if not isinstance(needs, dict) or not isinstance(old, dict):
            return schema
        needs = {**needs, **old}
        if not needs or not all(isinstance(names, list) for names in needs.values()):
            return schema
        rest = _without(schema, "dependentRequired", "dependencies")
        if len(needs) > MOST_WAYS or not self._may(2 ** len(needs)):
            return schema
        ways = [rest]
        for name, others in needs.items():
            ways = [way for each in ways for way in _with_and_without(each, str(name), others)]
        return _either(rest, ways)

    def _counted(self, schema: Schema) -> Schema:
        """`minProperties` and `maxProperties` of an object all of whose properties are known."""
        least, most = schema.get("minProperties", 0), schema.get("maxProperties", math.inf)
        closed = schema.get("additionalProperties") is False and "patternProperties" not in schema
        if not closed or _COMBINED & set(schema) or not (_is_count(least) and _is_count(most)):
            return schema
        required = _required(schema)
        may = [name for name, below in _properties(schema).items() if below is not False]
        optional = [name for name in may if name not in required]
        low, high = max(0, int(cast(int, least)) - len(required)), cast(float, most) - len(required)
        if high < 0 or low > min(len(optional), high):
            raise GrammarError("no object has as many properties as minProperties and maxProperties say")
        rest = _without(schema, "minProperties", "maxProperties")
        if not low and high >= len(optional):
            return rest
        width = min(len(optional), int(min(high, len(optional))))
        if not self._may(math.comb(len(optional), width) * math.comb(width, low)):
            return schema
        return _either(rest, [_of_these(rest, *names) for names in _choices(optional, width, low)])

    # -- items -----------------------------------------------------------------------------------

    def _distinct(self, schema: Schema) -> Schema:
        """`uniqueItems` of a list that has one item at most, or items of a few known values."""
        if schema.get("uniqueItems") is not True or schema.get("type") != "array":
            return schema
        rest = _without(schema, "uniqueItems")
        least, most = schema.get("minItems", 0), schema.get("maxItems", math.inf)
        if not (_is_count(least) and _is_count(most)):
            return schema
        low, high = int(cast(int, least)), cast(float, most)
        if high <= 1:
            return rest
        values = _values(self._resolved(schema.get("items")))
        if values is None or {"prefixItems", "contains", "additionalItems"} & set(schema):
            return schema
        values = list({_canonical(value): value for value in values}.values())
        lengths = range(low, 1 + int(min(high, len(values))))
        if not lengths or not self._may(sum(math.perm(len(values), length) for length in lengths)):
            return schema
        rest = _without(rest, "items", "minItems", "maxItems")
        return _either(
            rest,
            [
                {**rest, "prefixItems": [{"const": value} for value in each], **_just(length)}
                for length in lengths
                for each in permutations(values, length)
            ],
        )

    # -- helpers ---------------------------------------------------------------------------------

    def _may(self, ways: int) -> bool:
        """Whether there may be so many more."""
        if self._ways + ways > MOST_WAYS:
            return False
        self._ways += ways
        return True

    def _resolved(self, schema: object) -> Schema:
        """What a reference to one of the root's definitions leads to; anything else as it is."""
        if not isinstance(schema, dict):
            return {}
        target = schema.get("$ref")
        if set(schema) != {"$ref"} or not isinstance(target, str) or target.count("/") != 2:
            return schema
        _, where, name = target.split("/")
        known = self._root.get(where)
        found = known.get(name) if target.startswith("#/") and isinstance(known, dict) else None
        return found if isinstance(found, dict) else schema


# -- one schema ----------------------------------------------------------------------------------


def _evaluated(schema: Schema) -> Schema:
    """Where nothing is combined, what is not evaluated is what is not described."""
    made = dict(schema)
    if _COMBINED & set(schema):
        return schema
    if "unevaluatedProperties" in made:
        made.setdefault("additionalProperties", made.pop("unevaluatedProperties"))
    if "unevaluatedItems" in made and "contains" not in made and not isinstance(made.get("items"), list):
        made.setdefault("items", made.pop("unevaluatedItems"))
    return made


def _formatted(schema: Schema) -> Schema:
    """Formats that say nothing, and those that a pattern says."""
    name = schema.get("format")
    if not isinstance(name, str) or schema.get("type") != "string":
        return schema
    rest = _without(schema, "format")
    if name in _SAYS_NOTHING:
        return rest
    if name in _PATTERNS and "pattern" not in schema:
        return {**rest, "pattern": _PATTERNS[name]}
    return schema


def _with_and_without(schema: Schema, name: str, others: Iterable[object]) -> Iterator[Schema]:
    required = _required(schema)
    yield {**schema, "required": list(dict.fromkeys((*required, name, *map(str, others))))}
    if name not in required:
        yield {**schema, "properties": {**_properties(schema), name: False}}


def _choices(names: Sequence[str], width: int, least: int) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    """Which of the names may be there, and which of these are the first `least` that are."""
    for allowed in combinations(names, width):
        for first in combinations(allowed, least):
            later = allowed[allowed.index(first[-1]) + 1 :] if first else allowed
            yield first, later


def _of_these(schema: Schema, needed: Sequence[str], may: Sequence[str]) -> Schema:
    """An object with all of one and any of the other, beside what it needs anyway."""
    required = [*_required(schema), *needed]
    kept = {*required, *may}
    properties = {name: below for name, below in _properties(schema).items() if name in kept}
    return {**schema, "properties": properties, "required": required}


def _just(length: int) -> Schema:
    return {"items": False, "minItems": length, "maxItems": length}


def _either(schema: Schema, ways: Sequence[Schema]) -> Schema:
    """One of these; what they share stands beside them."""
    shared: Schema = {key: schema[key] for key in _SHARED if key in schema}
    own = [_without(way, *shared) for way in ways]
    return {**shared, **own[0]} if len(own) == 1 else {**shared, "anyOf": own}


def _without(schema: Schema, *keys: str) -> Schema:
    return {key: value for key, value in schema.items() if key not in keys}


def _properties(schema: Schema) -> Schema:
    """Those that are described."""
    found = schema.get("properties")
    return dict(found) if isinstance(found, dict) else {}


def _required(schema: Schema) -> list[str]:
    found = schema.get("required")
    return list(dict.fromkeys(map(str, found))) if isinstance(found, list) else []


def _values(schema: Schema) -> list[object] | None:
    """All values that it allows, if it lists them."""
    said = set(schema) - {"title", "description"}
    if said == {"type"} and schema["type"] == "boolean":
        return [True, False]
    listed = [schema["const"]] if "const" in schema else schema.get("enum")
    if not isinstance(listed, list) or len(said & {"const", "enum"}) != 1 or said - {"const", "enum", "type"}:
        return None
    if schema.get("type", "string") != "string":
        return None
    return [value for value in listed if "type" not in schema or isinstance(value, str)]


def _is_count(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def _canonical(value: object) -> str:
    """The same for equal values: 1 and 1.0 are."""
    whole = isinstance(value, float) and value.is_integer()
    return json.dumps(int(cast(float, value)) if whole else value, sort_keys=True)
