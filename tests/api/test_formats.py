"""What an answer is to look like, in anybody's words, is one format or a 400 that names the field."""

import json
import re

import pytest

from api.errors import ApiError
from api.formats import format_of
from api.schema import ChatBody, CompletionBody, decode
from bus.messages.generation import Format, GrammarFormat, GrammarSyntax, JsonFormat, RegexFormat

GBNF = 'root ::= "a" | b-c\nb-c ::= [b]'
SCHEMA = {"type": "object", "properties": {"b": {"type": "integer"}, "a": {"const": 2**70}}}
TEXT = '{"type":"object","properties":{"b":{"type":"integer"},"a":{"const":1180591620717411303424}}}'


def asked(**fields: object) -> Format | None:
    """Both routes read the same."""
    chat = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]} | fields
    plain = {"model": "m", "prompt": "Hi"} | fields
    found = format_of(decode(json.dumps(chat).encode(), ChatBody))
    assert format_of(decode(json.dumps(plain).encode(), CompletionBody)) == found
    return found


def named(**fields: object) -> dict[str, object]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA} | fields}


@pytest.mark.parametrize("fields", [{}, {"response_format": {"type": "text"}}, {"response_format": None}])
def test_an_answer_is_free_unless_somebody_asks(fields: dict[str, object]) -> None:
    assert asked(**fields) is None


@pytest.mark.parametrize("strict", [True, False, None])
def test_a_schema_is_kept_to_however_strict_and_its_keys_stay_in_order(strict: bool | None) -> None:
    assert asked(response_format=named(strict=strict, description="numbers")) == JsonFormat(TEXT, "x")


@pytest.mark.parametrize(
    ("fields", "format"),
    [
        ({"response_format": {"type": "json_object"}}, JsonFormat()),
        ({"response_format": {"type": "json_object", "schema": SCHEMA}}, JsonFormat(TEXT)),
        ({"structured_outputs": {"json": SCHEMA}}, JsonFormat(TEXT)),
        ({"structured_outputs": {"json": TEXT}}, JsonFormat(TEXT)),
        ({"structured_outputs": {"json_object": True}}, JsonFormat()),
        ({"structured_outputs": {"regex": "[0-9]+"}}, RegexFormat("[0-9]+")),
        ({"structured_outputs": {"choice": ["yes", "no", "yes"]}}, RegexFormat("yes|no")),
        ({"structured_outputs": {"grammar": 'start: "a"'}}, GrammarFormat('start: "a"')),
        ({"guided_json": SCHEMA}, JsonFormat(TEXT)),
        ({"guided_json": TEXT}, JsonFormat(TEXT)),
        ({"guided_regex": "a|b"}, RegexFormat("a|b")),
        ({"guided_choice": ["1.5", "a|b"]}, RegexFormat(r"1\.5|a\|b")),
        ({"guided_grammar": 'start: "a"'}, GrammarFormat('start: "a"')),
        ({"json_schema": SCHEMA}, JsonFormat(TEXT)),
        ({"structured_outputs": {"grammar": GBNF}}, GrammarFormat(GBNF, GrammarSyntax.GBNF)),
        ({"guided_grammar": GBNF}, GrammarFormat(GBNF, GrammarSyntax.GBNF)),
        ({"grammar": GBNF}, GrammarFormat(GBNF, GrammarSyntax.GBNF)),
        ({"grammar": 'start: "::="'}, GrammarFormat('start: "::="')),
        ({"grammar": ""}, None),
    ],
)
def test_each_familys_words_mean_the_same(fields: dict[str, object], format: Format | None) -> None:
    assert asked(**fields) == format


def test_a_choice_stands_for_itself_whatever_it_is_made_of() -> None:
    texts = ["".join(map(chr, range(32, 127))), "naïve\n\ttext", "^a$", "[x]{2}"]
    format = asked(guided_choice=texts)
    assert isinstance(format, RegexFormat)
    for text in texts:
        assert re.fullmatch(format.pattern, text)
    assert not re.fullmatch(format.pattern, "a")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"response_format": {}}, "response_format.type"),
        ({"response_format": "json_object"}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            "response_format.json_schema.schema",
        ),
        ({"response_format": named(name="")}, "response_format.json_schema.name"),
        ({"response_format": named(schema=[1])}, "response_format.json_schema.schema"),
        ({"response_format": named(strict="yes")}, "response_format.json_schema.strict"),
        ({"guided_json": "{"}, "guided_json"),
        ({"guided_json": "[1]"}, "guided_json"),
        ({"guided_json": 5}, "guided_json"),
        ({"guided_regex": ""}, "guided_regex"),
        ({"guided_choice": []}, "guided_choice"),
        ({"guided_choice": ["a", ""]}, "guided_choice"),
        ({"guided_choice": ["a"] * 1001}, "guided_choice"),
        ({"guided_choice": [1]}, "guided_choice[0]"),
        ({"structured_outputs": {"structural_tag": {}}}, "structured_outputs"),
        ({"structured_outputs": {"regex": "a", "json_object": True}}, "structured_outputs.regex"),
        ({"guided_regex": "a", "response_format": {"type": "json_object"}}, "guided_regex"),
    ],
)
def test_what_is_no_format_is_a_400_that_names_the_field(fields: dict[str, object], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        asked(**fields)
    assert (caught.value.fault.status, caught.value.fault.param) == (400, param)


@pytest.mark.parametrize("as_text", [True, False])
def test_a_schema_that_is_nested_without_end_gets_no_further(as_text: bool) -> None:
    deep: object = {}
    for _ in range(100):
        deep = {"x": deep}
    with pytest.raises(ApiError) as caught:
        asked(guided_json=json.dumps(deep) if as_text else deep)
    assert caught.value.fault.param == "guided_json"
