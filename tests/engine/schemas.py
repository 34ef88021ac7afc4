"""JSON schemas in the manner of the JSON-Schema-Test-Suite, each with what it is about."""

from collections.abc import Iterator
from random import Random

Schema = dict[str, object]

WORDS = ("name", "größe", "a b", "tags", "日本", "x", 'quo"te', "nested", "kind", "n-1")

POINT: Schema = {
    "type": "object",
    "properties": {"x": {"type": "integer"}, "y": {"type": "number"}},
    "required": ["x", "y"],
    "additionalProperties": False,
}
TREE: Schema = {
    "type": "object",
    "properties": {
        "value": {"type": "string", "maxLength": 8},
        "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 2},
    },
    "required": ["value"],
    "additionalProperties": False,
}

NAMED: dict[str, Schema] = {
    "any value": {},
    "any object": {"type": "object"},
    "any array": {"type": "array", "maxItems": 4},
    "null": {"type": "null"},
    "boolean": {"type": "boolean"},
    "several types": {"type": ["integer", "string", "null"]},
    "const string": {"const": "só 'tis"},
    "const number": {"const": 3.25},
    "const object": {"const": {"a": [1, None, "x"]}},
    "enum of all kinds": {"enum": [1, "two", None, False, [3], {"four": 4}]},
    "enum of unicode": {"enum": ["é", "日本語", "😀", "\u0001", 'a"b\\c']},
    "integer range": {"type": "integer", "minimum": -7, "maximum": 120},
    "exclusive range": {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 10},
    "number range": {"type": "number", "minimum": 0.5, "maximum": 2.25},
    "exclusive number": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    "negative only": {"type": "number", "maximum": -0.001},
    "multiple of": {"type": "integer", "multipleOf": 7, "minimum": 0},
    "multiple of a fraction": {"type": "number", "multipleOf": 0.25, "minimum": 0, "maximum": 4},
    "string lengths": {"type": "string", "minLength": 3, "maxLength": 5},
    "string at least": {"type": "string", "minLength": 12},
    "pattern": {"type": "string", "pattern": "^[A-Z]{2}-\\d{3,4}$"},
    "pattern anywhere": {"type": "string", "pattern": "ab+c"},
    "pattern of alternatives": {"type": "string", "pattern": "^(red|green|blue)$"},
    "pattern and length": {"type": "string", "pattern": "^[a-z]*$", "minLength": 2, "maxLength": 6},
    "date": {"type": "string", "format": "date"},
    "date-time": {"type": "string", "format": "date-time"},
    "time": {"type": "string", "format": "time"},
    "email": {"type": "string", "format": "email"},
    "uuid": {"type": "string", "format": "uuid"},
    "ipv4": {"type": "string", "format": "ipv4"},
    "ipv6": {"type": "string", "format": "ipv6"},
    "tuple": {
        "type": "array",
        "prefixItems": [{"type": "integer"}, {"type": "string"}],
        "items": False,
        "minItems": 2,
    },
    "items after a tuple": {
        "type": "array",
        "prefixItems": [{"type": "boolean"}],
        "items": {"type": "integer"},
        "minItems": 3,
        "maxItems": 5,
    },
    "array bounds": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 4},
    "array of arrays": {
        "type": "array",
        "items": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
        "minItems": 1,
        "maxItems": 2,
    },
    "empty array": {"type": "array", "maxItems": 0},
    "closed object": POINT,
    "open object": {**POINT, "additionalProperties": {"type": "boolean"}, "maxProperties": 4},
    "optional properties": {
        "type": "object",
        "properties": {name: {"type": "integer"} for name in ("a", "b", "c", "d")},
        "required": ["b"],
        "additionalProperties": False,
    },
    "required but not described": {"type": "object", "required": ["id"], "maxProperties": 2},
    "a map": {"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 3},
    "at least one property": {
        "type": "object",
        "additionalProperties": {"type": "null"},
        "minProperties": 1,
        "maxProperties": 2,
    },
    "pattern properties": {
        "type": "object",
        "patternProperties": {"^s_[a-z]+$": {"type": "string"}, "^i_[a-z]+$": {"type": "integer"}},
        "additionalProperties": False,
    },
    "names that need quoting": {
        "type": "object",
        "properties": {name: {"type": "boolean"} for name in WORDS},
        "required": list(WORDS),
        "additionalProperties": False,
    },
    "any of": {"anyOf": [{"type": "integer", "minimum": 5}, {"type": "string", "maxLength": 4}]},
    "one of, told apart by type": {"oneOf": [{"type": "integer"}, {"type": "string"}, POINT]},
    "one of, told apart by a constant": {
        "oneOf": [
            {
                "type": "object",
                "properties": {"kind": {"const": kind}, kind: {"type": "integer"}},
                "required": ["kind", kind],
                "additionalProperties": False,
            }
            for kind in ("circle", "square")
        ]
    },
    "all of": {"allOf": [{"type": "integer"}, {"minimum": 3}, {"maximum": 300}]},
    "all of objects": {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
            {"type": "object", "properties": {"b": {"type": "boolean"}}, "required": ["b"]},
        ],
        "maxProperties": 2,
    },
    "a reference": {
        "type": "array",
        "items": {"$ref": "#/$defs/point"},
        "minItems": 1,
        "maxItems": 2,
        "$defs": {"point": POINT},
    },
    "a reference beside others": {
        "$ref": "#/$defs/small",
        "minimum": 3,
        "$defs": {"small": {"type": "integer", "maximum": 9}},
    },
    "definitions of old": {
        "type": "object",
        "properties": {"p": {"$ref": "#/definitions/p"}},
        "required": ["p"],
        "additionalProperties": False,
        "definitions": {"p": {"type": "string", "maxLength": 3}},
    },
    "recursive": {"$ref": "#/$defs/tree", "$defs": {"tree": TREE}},
    "recursive through the root": {
        "type": "object",
        "properties": {"next": {"anyOf": [{"type": "null"}, {"$ref": "#"}]}},
        "required": ["next"],
        "additionalProperties": False,
    },
    "annotations": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "T",
        "description": "D",
        "default": 3,
        "examples": [1],
        "deprecated": True,
        "type": "integer",
        "x-vendor": {"not": "a keyword"},
    },
    "several of some properties": {
        "type": "object",
        "properties": {name: {"type": "integer"} for name in "abcde"},
        "required": ["b"],
        "additionalProperties": False,
        "minProperties": 3,
        "maxProperties": 4,
    },
    "names from a list": {
        "type": "object",
        "propertyNames": {"$ref": "#/$defs/colour"},
        "additionalProperties": {"type": "integer"},
        "$defs": {"colour": {"enum": ["red", "green", "blue"], "type": "string", "title": "Colour"}},
    },
    "names by a pattern": {
        "type": "object",
        "propertyNames": {"pattern": "^[a-z]{1,4}$"},
        "additionalProperties": {"type": "boolean"},
        "maxProperties": 2,
    },
    "properties that need others": {
        "type": "object",
        "properties": {name: {"type": "null"} for name in ("card", "address", "name")},
        "dependentRequired": {"card": ["address", "name"]},
        "dependencies": {"address": ["name"]},
        "additionalProperties": False,
    },
    "distinct values of a few": {
        "type": "array",
        "items": {"enum": ["a", "b", 3]},
        "uniqueItems": True,
        "minItems": 1,
    },
    "one value at most is distinct": {"type": "array", "maxItems": 1, "uniqueItems": True},
    "nothing that is not evaluated": {
        "type": "object",
        "properties": {"a": {"type": "array", "prefixItems": [{"type": "null"}], "unevaluatedItems": False}},
        "unevaluatedProperties": False,
    },
    "formats that a pattern says": {
        "type": "object",
        "properties": {
            "pointer": {"type": "string", "format": "json-pointer", "maxLength": 9},
            "relative": {"type": "string", "format": "relative-json-pointer", "maxLength": 9},
            "id": {"type": "string", "format": "uuid4"},
            "bytes": {"type": "string", "format": "byte", "maxLength": 12},
            "secret": {"type": "string", "format": "password", "maxLength": 9},
        },
        "required": ["pointer", "relative", "id", "bytes", "secret"],
        "additionalProperties": False,
    },
    "uniqueItems that says nothing": {
        "type": "array",
        "items": {"type": "integer"},
        "uniqueItems": False,
        "maxItems": 2,
    },
}

REFUSED: dict[str, Schema] = {
    "uniqueItems": {"type": "array", "uniqueItems": True},
    "not": {"not": {"type": "string"}},
    "if": {"if": {"type": "string"}, "then": {"minLength": 3}},
    "contains": {"type": "array", "contains": {"const": 1}},
    "propertyNames": {"type": "object", "propertyNames": {"maxLength": 3}},
    "dependentRequired": {"type": "object", "dependentRequired": {name: ["z"] for name in "abcdefgh"}},
    "dependentSchemas": {"type": "object", "dependentSchemas": {"a": {}}},
    "unevaluatedProperties": {"allOf": [{"type": "object"}], "unevaluatedProperties": False},
    "unevaluatedItems": {"type": "array", "contains": {}, "unevaluatedItems": False},
    "$dynamicRef": {"$dynamicRef": "#a"},
    "oneOf": {"oneOf": [{"type": "integer"}, {"type": "number"}]},
    "minProperties": {"type": "object", "minProperties": 2},
    "only supported when all keys": {"type": "object", "properties": {"a": {}}, "maxProperties": 2},
    "no object has as many": {"properties": {"a": {}}, "additionalProperties": False, "minProperties": 2},
    "unheard-of": {"type": "string", "format": "unheard-of"},
    "look-around": {"type": "string", "pattern": "(?=a)b"},
    "unclosed group": {"type": "string", "pattern": "a(b"},
    "Invalid type": {"type": "widget"},
    "does not exist": {"$ref": "#/$defs/nowhere"},
    "http://": {"$ref": "http://localhost/schema"},
    "greater than maximum": {"type": "integer", "minimum": 3, "maximum": 1},
    "minLength": {"type": "string", "minLength": "3"},
    "Unsatisfiable": {"enum": []},
}
"""By a word of the reason."""


def made_up(seed: int, count: int) -> Iterator[Schema]:
    """Objects of random make, some levels deep."""
    random = Random(seed)
    for _ in range(count):
        yield _object(random, 0)


def _object(random: Random, depth: int) -> Schema:
    names = random.sample(WORDS, random.randint(1, 3))
    return {
        "type": "object",
        "properties": {name: _any(random, depth + 1) for name in names},
        "required": random.sample(names, random.randint(0, len(names))),
        "additionalProperties": False,
    }


def _any(random: Random, depth: int) -> Schema:
    kind = random.choice(
        ["string", "integer", "number", "enum", "either", "array", "object"][: 7 if depth < 3 else 4]
    )
    match kind:
        case "string":
            return {"type": "string", "minLength": random.randint(0, 3), "maxLength": random.randint(3, 9)}
        case "integer" | "number":
            return {"type": kind, "minimum": random.randint(-9, 0), "maximum": random.randint(1, 999)}
        case "enum":
            return {"enum": random.sample(["a", "b", 1, 2.5, None, True, "ß"], 3)}
        case "either":
            return {"anyOf": [_any(random, depth + 1), {"type": "null"}]}
        case "array":
            least = random.randint(0, 2)
            items = _any(random, depth + 1)
            return {"type": "array", "items": items, "minItems": least, "maxItems": least + 1}
        case _:
            return _object(random, depth)
