"""Looks at a JSON schema before a grammar is made of it: limits, and what the library would not hold."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Final, TypeAlias, cast

from engine.constraints.errors import GrammarError

Schema: TypeAlias = dict[str, object]

LONGEST: Final = 128 * 1024
"""Characters of a schema, a grammar, a regular expression, or all of a request's tools."""
DEEPEST: Final = 64
"""Schemas within schemas, and values within values."""
MOST_SCHEMAS: Final = 2_000
MOST_PROPERTIES: Final = 400
"""Of one object."""
MOST_REFERENCES: Final = 200
"""Different ones: the library follows them by recursion, and a thousand in a row overflow the stack."""
LONGEST_PATTERNS: Final = 8 * 1024
"""Characters of a regular expression, and of all of a schema's patterns together."""
LARGEST_MULTIPLES: Final = 5_000
"""All `multipleOf` of a schema together, in units of their last digit: so many states has an automaton."""

_OF_ONE: Final = ("items", "additionalProperties", "additionalItems", "contains", "not", "if", "then", "else")
_OF_LIST: Final = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_OF_NAMES: Final = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")

LAYOUT: Final = r"\x20|\n(\x20{0,24}|\t{0,8})"
"""What may stand where JSON allows white space: a space, or a line break and an indentation. Models that are
let go on printing white space have been known not to stop."""

OPTIONS: Final[Mapping[str, object]] = {
    "whitespace_pattern": LAYOUT,
    "item_separator": ",",
    "key_separator": ":",
    "coerce_one_of": False,
    "lenient": False,
}
"""How llguidance reads schemas: https://github.com/guidance-ai/llguidance/blob/main/docs/json_schema.md."""


def schema_of(text: str) -> Schema:
    """A schema that came as text, ready for llguidance. Raises GrammarError."""
    if len(text) > LONGEST:
        raise GrammarError(f"the JSON schema has {len(text)} characters; {LONGEST} are the most")
    return prepared(_loaded(text))


def prepared(value: object) -> Schema:
    """Raises GrammarError for what is no schema, and for what would be taken and not held."""
    if value is True:
        value = {}
    if not isinstance(value, dict):
        raise GrammarError("a JSON schema is an object; this one is " + json.dumps(value)[:40])
    schema = {key: below for key, below in value.items() if key != "x-guidance"}
    parts = list(schemas_in(schema))
    for part in parts:
        _check(part)
    _check_size(parts)
    return {**schema, "x-guidance": dict(OPTIONS)}


def _check(schema: Schema) -> None:
    if schema.get("uniqueItems") is False:
        del schema["uniqueItems"]
    least, required = schema.get("minProperties"), schema.get("required")
    distinct = len(set(map(str, required))) if isinstance(required, list) else 0
    # Additional properties may come twice under one name: the grammar can't count them.
    if isinstance(least, int) and least > max(1, distinct):
        raise GrammarError(f"minProperties {least} can't be held to: name the properties in `required`")


def _check_size(parts: Sequence[Schema]) -> None:
    """What is within these limits is compiled within about a second."""
    widest = max(
        (len(below) for part in parts if isinstance(below := part.get("properties"), dict)), default=0
    )
    sizes = {
        "schemas": (len(parts), MOST_SCHEMAS),
        "properties of one object": (widest, MOST_PROPERTIES),
        "different references": (
            len({str(part["$ref"]) for part in parts if "$ref" in part}),
            MOST_REFERENCES,
        ),
        "characters of patterns": (
            sum(len(str(part.get("pattern", ""))) for part in parts),
            LONGEST_PATTERNS,
        ),
        "steps of multipleOf": (sum(_steps(part.get("multipleOf")) for part in parts), LARGEST_MULTIPLES),
    }
    for what, (size, most) in sizes.items():
        if size > most:
            raise GrammarError(f"the JSON schema has {size} {what}; {most} are the most")


def _steps(multiple: object) -> int:
    """A number without its decimal point: 0.25 has 25 steps."""
    if not isinstance(multiple, int | float) or isinstance(multiple, bool) or not math.isfinite(multiple):
        return 0
    digits = Decimal(str(multiple)).normalize().as_tuple()
    return abs(multiple) if isinstance(multiple, int) else int("".join(map(str, digits.digits)))


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
    """A schema with every schema in it changed."""
    made = dict(change(schema))
    for key, below in made.items():
        if key in _OF_ONE and isinstance(below, dict):
            made[key] = mapped(below, change)
        elif key in _OF_LIST and isinstance(below, list):
            made[key] = [mapped(one, change) if isinstance(one, dict) else one for one in below]
        elif key in _OF_NAMES and isinstance(below, dict):
            made[key] = {
                name: mapped(one, change) if isinstance(one, dict) else one for name, one in below.items()
            }
    return made


def _loaded(text: str) -> object:
    try:
        return cast(object, json.loads(text))
    except RecursionError:
        raise GrammarError(f"the JSON schema is nested more than {DEEPEST} deep") from None
    except ValueError as error:
        raise GrammarError(f"the JSON schema is no JSON: {error}") from error
