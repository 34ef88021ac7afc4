"""JSON schemas, and the schemas that they are made of."""

from collections.abc import Callable, Iterator
from typing import Final, TypeAlias, cast

from engine.constraints.errors import GrammarError

Schema: TypeAlias = dict[str, object]

DEEPEST: Final = 64
"""Schemas within schemas, and values within values."""

_OF_ONE: Final = ("items", "additionalProperties", "additionalItems", "contains", "not", "if", "then", "else")
_OF_LIST: Final = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_OF_NAMES: Final = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")


def schemas_in(schema: object, depth: int = 0) -> Iterator[Schema]:
    """A schema and all that it is made of. Raises GrammarError where they are too deep."""
    if depth > DEEPEST:
        raise GrammarError(f"the JSON schema is nested more than {DEEPEST} deep")
    if not isinstance(schema, dict):
        return
    yield cast(Schema, schema)
    for key, below in schema.items():
        if key in _OF_ONE and isinstance(below, dict):
            yield from schemas_in(below, depth + 1)
        elif key in _OF_LIST and isinstance(below, list):
            for one in below:
                yield from schemas_in(one, depth + 1)
        elif key in _OF_NAMES and isinstance(below, dict):
            for one in below.values():
                yield from schemas_in(one, depth + 1)


def mapped(schema: Schema, change: Callable[[Schema], Schema]) -> Schema:
    """A schema with every schema in it changed: first the whole, then what it is made of then."""
    return _with_parts(change(schema), lambda below: mapped(below, change))


def rebuilt(schema: Schema, change: Callable[[Schema], Schema]) -> Schema:
    """A schema with every schema in it changed: first what it is made of, then the whole."""
    return change(_with_parts(schema, lambda below: rebuilt(below, change)))


def _with_parts(schema: Schema, change: Callable[[Schema], Schema]) -> Schema:
    made = dict(schema)
    for key, below in made.items():
        if key in _OF_ONE and isinstance(below, dict):
            made[key] = change(below)
        elif key in _OF_LIST and isinstance(below, list):
            made[key] = [change(one) if isinstance(one, dict) else one for one in below]
        elif key in _OF_NAMES and isinstance(below, dict):
            made[key] = {name: change(one) if isinstance(one, dict) else one for name, one in below.items()}
    return made
