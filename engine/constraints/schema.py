"""Looks at a JSON schema before a grammar is made of it: limits, and what the library would not hold."""

import json
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import islice
from typing import Final, cast

from engine.constraints.errors import GrammarError
from engine.constraints.parts import DEEPEST, Schema, schemas_in
from engine.constraints.restating import restated

LONGEST: Final = 128 * 1024
"""Characters of a schema, a grammar, a regular expression, or all of a request's tools."""
MOST_SCHEMAS: Final = 2_000
MOST_PROPERTIES: Final = 400
"""Of one object."""
MOST_REFERENCES: Final = 200
"""Different ones: the library follows them by recursion, and a thousand in a row overflow the stack."""
LONGEST_PATTERNS: Final = 8 * 1024
"""Characters of a regular expression, and of all of a schema's patterns together."""
LARGEST_MULTIPLES: Final = 5_000
"""All `multipleOf` of a schema together, in units of their last digit: so many states has an automaton."""

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
    _check_size(list(schemas_in(schema)))
    schema = restated(schema)
    parts = list(islice(schemas_in(schema), MOST_SCHEMAS + 1))
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
        raise GrammarError(
            f"minProperties {least} can't be held to: name properties in `required`, or describe all of "
            'a few and say "additionalProperties": false'
        )


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


def _loaded(text: str) -> object:
    try:
        return cast(object, json.loads(text))
    except RecursionError:
        raise GrammarError(f"the JSON schema is nested more than {DEEPEST} deep") from None
    except ValueError as error:
        raise GrammarError(f"the JSON schema is no JSON: {error}") from error
