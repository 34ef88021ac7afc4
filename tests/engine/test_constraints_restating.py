"""A schema that is said in other words allows the very values that it allowed."""

import json
from collections.abc import Iterator
from itertools import combinations, permutations, product
from typing import Final

import pytest
from jsonschema import Draft202012Validator
from llguidance import LLMatcher, LLTokenizer

from engine.constraints.errors import GrammarError
from engine.constraints.parts import Schema
from engine.constraints.restating import MOST_WAYS
from engine.constraints.schema import schema_of

BYTES: Final = LLTokenizer("byte")
NAMES: Final = "abcd"
NUMBER: Final[Schema] = {"type": "integer"}
FOUR: Final[Schema] = {
    "type": "object",
    "properties": dict.fromkeys(NAMES, NUMBER),
    "additionalProperties": False,
}


def allows(schema: Schema, value: object) -> bool:
    content = {"name": "content", "json_schema": schema_of(json.dumps(schema))}
    matcher = LLMatcher(BYTES, json.dumps({"grammars": [content]}), log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    tokens = list(json.dumps(value, ensure_ascii=False).encode())
    if matcher.validate_tokens(tokens) < len(tokens):
        return False
    matcher.consume_tokens(tokens)
    return matcher.is_accepting()


def objects() -> Iterator[dict[str, int]]:
    """With any of four properties."""
    for count in range(5):
        for names in combinations(NAMES, count):
            yield dict.fromkeys(names, 1)


def lists() -> Iterator[list[object]]:
    for count in range(4):
        yield from map(list, product(("a", "b", 1), repeat=count))


def check(schema: Schema, values: Iterator[object]) -> None:
    valid = Draft202012Validator(schema).is_valid
    for value in values:
        assert allows(schema, value) == valid(value), value


@pytest.mark.parametrize(
    "schema",
    [
        {**FOUR, "minProperties": 2},
        {**FOUR, "maxProperties": 2},
        {**FOUR, "minProperties": 1, "maxProperties": 3, "required": ["c"]},
        {**FOUR, "minProperties": 3, "maxProperties": 3},
        {**FOUR, "maxProperties": 0},
        {**FOUR, "properties": {**dict.fromkeys(NAMES, NUMBER), "b": False}, "minProperties": 2},
        {**FOUR, "dependentRequired": {"a": ["c"], "d": ["a", "b"]}},
        {**FOUR, "dependentRequired": {"b": ["c"]}, "required": ["b"]},
        {"type": "object", "dependentRequired": {"a": ["b"]}, "additionalProperties": NUMBER},
        {"type": "object", "propertyNames": {"enum": ["a", "c"]}},
        {**FOUR, "propertyNames": {"enum": ["a", "c"]}},
        {"type": "object", "propertyNames": {"pattern": "^[ab]$"}, "additionalProperties": NUMBER},
        {"type": "object", "properties": {"a": NUMBER}, "unevaluatedProperties": False},
        {"type": "object", "properties": {"a": NUMBER, "b": NUMBER}, "propertyNames": {"type": "string"}},
    ],
)
def test_the_same_objects_are_allowed(schema: Schema) -> None:
    check(schema, objects())


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": {"enum": ["a", "b", 1]}, "uniqueItems": True},
        {"type": "array", "items": {"enum": ["a", "b", "b"]}, "uniqueItems": True, "minItems": 1},
        {"type": "array", "items": {"enum": ["a", 1], "type": "string"}, "uniqueItems": True},
        {"type": "array", "items": {"enum": ["a", "b", 1]}, "uniqueItems": True, "maxItems": 2},
        {"type": "array", "prefixItems": [{"const": "a"}], "unevaluatedItems": NUMBER},
    ],
)
def test_the_same_lists_are_allowed(schema: Schema) -> None:
    check(schema, lists())


def test_numbers_that_are_equal_are_one_value() -> None:
    schema: Schema = {"type": "array", "items": {"enum": [1, 1.0, True]}, "uniqueItems": True}
    assert allows(schema, [1, True])
    assert not allows(schema, [1, 1])
    assert not allows(schema, [1, True, 1])


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("json-pointer", ("", "/a/~0b~1/0"), ("a", "/~2")),
        ("relative-json-pointer", ("0", "12/a", "1#"), ("01", "/a")),
        ("base64", ("", "aGk=", "aGV5"), ("aGk", "a===")),
        ("base64url", ("aGk", "aGk=", "a-_9"), ("a", "a+b9")),
        ("uuid7", ("0192f3c4-1a2b-7c3d-9e4f-0123456789ab",), ("0192f3c4-1a2b-4c3d-9e4f-0123456789ab",)),
        ("password", ("any thing",), ()),
    ],
)
def test_formats_that_a_pattern_says(name: str, good: tuple[str, ...], bad: tuple[str, ...]) -> None:
    schema: Schema = {"type": "string", "format": name}
    assert all(allows(schema, text) for text in good)
    assert not any(allows(schema, text) for text in bad)


def test_references_still_lead_where_they_led() -> None:
    schema: Schema = {
        "$defs": {
            "n": {"enum": ["x", "y"]},
            "list": {"type": "array", "items": {"$ref": "#/$defs/n"}, "uniqueItems": True},
        },
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/n"}, "b": {"$ref": "#/$defs/list"}},
        "dependentRequired": {"a": ["b"]},
        "additionalProperties": False,
    }
    assert allows(schema, {"a": "x", "b": ["y", "x"]})
    assert not allows(schema, {"a": "x", "b": ["y", "y"]})
    assert not allows(schema, {"a": "x"})


def test_what_would_take_too_many_ways_is_left_to_be_refused() -> None:
    many = [str(number) for number in range(7)]
    assert len(list(permutations(many))) > MOST_WAYS
    left = schema_of(json.dumps({"type": "array", "items": {"enum": many}, "uniqueItems": True}))
    assert left["uniqueItems"] is True
    sixteen = {**FOUR, "properties": dict.fromkeys("abcdefghijklmnop", NUMBER), "minProperties": 8}
    with pytest.raises(GrammarError, match="minProperties 8"):
        schema_of(json.dumps(sixteen))
