"""Calls that are told while they arrive are those that mlx-lm's parsers read in the whole text."""

from __future__ import annotations

import json
import pkgutil
import re
from collections.abc import Sequence
from random import Random

import mlx_lm.tool_parsers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.tools.calls import Begun, Call, Done, More, Piece, Stray, Unread, as_call
from engine.tools.formats import ToolFormat
from engine.tools.json_text import JsonText
from tests.engine.tool_formats import FORMS, Form, Written, calls_of, read

forms = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
names = st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True)
keys = names | st.sampled_from(["town", "days", "exact", "where", "among"])
TAME = st.text(alphabet="abz 09.Zürich東\n_-", max_size=12).map(str.strip).filter(bool)
WILD = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12)
SEEDS = st.integers(0, 2**16)
scalars = st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats(-1e6, 1e6)


def values(form: Form) -> st.SearchStrategy[object]:
    texts = WILD if form.strict else TAME
    if form.parser == "function_gemma":
        return texts | scalars
    return st.recursive(
        texts | scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
        max_leaves=6,
    )


def calls(form: Form) -> st.SearchStrategy[list[Written]]:
    call = st.tuples(names | st.just("look_up"), st.dictionaries(keys, values(form), max_size=4))
    return st.lists(call, min_size=1, max_size=3 if form.several else 1)


def cut(text: str, seed: int) -> list[str]:
    """Into pieces of a random size, as tokens are."""
    sizes = Random(seed)
    pieces = []
    while text:
        size = sizes.randint(1, 9)
        pieces.append(text[:size])
        text = text[size:]
    return pieces


def told_of(told: Sequence[Piece]) -> str:
    """All that is said, in a row."""
    return "".join(
        f"{piece.name} " if isinstance(piece, Begun) else piece.text
        for piece in told
        if not isinstance(piece, Done)
    )


def equal(one: Sequence[tuple[str, str]], other: Sequence[Call]) -> bool:
    return [(name, json.loads(arguments)) for name, arguments in one] == [
        (call.name, json.loads(call.arguments)) for call in other
    ]


def test_every_form_that_mlx_lm_knows_is_read_while_it_arrives() -> None:
    known = {module.name for module in pkgutil.iter_modules(mlx_lm.tool_parsers.__path__)}
    assert known == set(FORMS)
    assert all(form.format().layout for form in FORMS.values())


@forms
@settings(max_examples=15, deadline=None, derandomize=True)
@given(data=st.data())
def test_the_deltas_join_to_what_the_parser_reads_in_the_whole(form: Form, data: st.DataObject) -> None:
    written = data.draw(calls(form))
    text, format = form.write(written), form.format()
    try:
        whole = format.parse(text)
    except ValueError:
        whole = []
    told = read(format, cut(text, data.draw(SEEDS)))
    if whole:
        assert equal(calls_of(told), whole)
        assert not any(isinstance(piece, Stray | Unread) for piece in told)
    else:
        assert told == [Unread(text)] or isinstance(told[0], Begun)


WORDS = re.compile(r"alpha|bravo|charlie|delta")
CALL: list[Written] = [("look_up", {"town": "Zurich now", "days": 3, "exact": True})]


@forms
def test_the_name_and_the_arguments_come_before_the_call_is_over(form: Form) -> None:
    format = form.format()
    reader, text = format.reader(), form.write(CALL)
    told: list[Piece] = []
    after = [told_of(told := told + reader.feed(character)) for character in text]
    assert next(place for place, said in enumerate(after) if "look_up" in said) < text.index("Zurich")
    assert next(place for place, said in enumerate(after) if "Zurich now" in said) < text.index("3")


@forms
@pytest.mark.parametrize("ended", [True, False])
def test_wherever_a_call_breaks_off_no_word_of_it_is_lost(form: Form, ended: bool) -> None:
    words = {"town": "alpha bravo", "days": "charlie", "among": "delta"}
    text, format = form.write([("look_up", dict(words))]), form.format()
    for end in range(1, len(text)):
        told = read(format, text[:end], ended)
        kept = told_of(told)
        assert [word for word in WORDS.findall(text[:end]) if word not in kept] == []


def spoilt(text: str, random: Random) -> str:
    """With something cut out of it here or there, and something else put in."""
    for _ in range(random.randint(1, 2)):
        begin = random.randrange(len(text) + 1)
        end = begin + random.choice([0, 1, 2, 3, 10])
        text = text[:begin] + random.choice(["", *'x<"}{,] \n', "</"]) + text[end:]
    return text


@forms
def test_however_a_call_is_spoilt_no_word_of_it_is_lost(form: Form) -> None:
    written: list[Written] = [("look_up", {"town": "alpha bravo", "days": "charlie", "among": "delta"})]
    text, format = form.write(written * (2 if form.several else 1)), form.format()
    for seed in range(100):
        broken = spoilt(text, Random(seed))
        told = told_of(read(format, cut(broken, seed)))
        assert [word for word in WORDS.findall(broken) if word not in told] == []


@forms
def test_what_is_no_call_is_told_whole_in_the_end(form: Form) -> None:
    for text in ("", "{", "[1, 2]", '{"a": 1}'):
        if form.parser == "glm47" or form.parser == "laguna":
            continue  # it makes a call of any text
        assert read(form.format(), text) == [Unread(text)]


def told_by(parser: str, text: str) -> list[Piece]:
    return read(FORMS[parser].format(), text)


@pytest.mark.parametrize(
    ("parser", "text", "content"),
    [
        ("json_tools", '{"name": "f", "arguments": {}} and more', "} and more"),
        (
            "json_tools",
            '[{"name": "f", "arguments": {}}, {"name": "g", "args": 1}]',
            '}, {"name": "g", "args": 1}]',
        ),
        ("mistral", 'Now: f[ARGS]{"a": 1}', "Now: "),
        ("mistral", 'f[ARGS]{"a": 1} so be it', " so be it"),
        ("qwen3_coder", "I call <function=f></function>", "I call "),
        ("qwen3_coder", "<function=f>one<parameter=a>1</parameter></function>", "one"),
        ("minimax_m2", '<invoke name="f"></invoke> two <invoke name="g"></invoke>', " two "),
        ("glm47", "f<arg_key>a</arg_key><arg_value>1</arg_value> three", " three"),
        ("pythonic", "Sure: [f(a=1)]", "Sure: ["),
    ],
)
def test_text_around_calls_is_content(parser: str, text: str, content: str) -> None:
    told = told_by(parser, text)
    assert [piece.text for piece in told if isinstance(piece, Stray)] == [content]
    assert calls_of(told)[0][0] == "f"


@pytest.mark.parametrize(
    ("parser", "text", "arguments"),
    [
        ("json_tools", '{"name": "f", "arguments": {"a": 1, b}}', '{"a": 1, b}}'),
        ("json_tools", '{"name": "f", "arguments": {"a": 1}', '{"a": 1}'),
        ("json_tools", '{"name": "f", "arguments": {"a": "x\ny"}}', '{"a": "x\ny"}}'),
        ("qwen3_coder", "<function=f><parameter=a>1</parameter><parameter=b>2", '{"a": "1"<parameter=b>2'),
        ("qwen3_coder", "<function=f><parameter=a>1</parameter>", '{"a": "1"}'),
        ("qwen3_coder", "<function=look_up><parameter=days>x</parameter>", "<parameter=days>x</parameter>"),
        ("gemma4", "call:f{a:1, b:2}", '{"a": 1 b:2}'),
        ("pythonic", "[f(a=1, 2)]", '{"a": 1 2)]'),
        ("kimi_k2", "<|tool_call_begin|>f:0<|tool_call_argument_begin|>{1", "{1"),
    ],
)
def test_a_tail_that_cannot_be_read_is_told_as_it_was_written(parser: str, text: str, arguments: str) -> None:
    assert calls_of(told_by(parser, text))[0][1] == arguments


def test_words_of_python_where_json_was_meant_are_told_as_json() -> None:
    text = '<|tool_call_begin|>f:0<|tool_call_argument_begin|>{"a": True}<|tool_call_end|>'
    assert calls_of(told_by("kimi_k2", text)) == [("f", '{"a": true}')]


def test_a_value_may_hold_what_ends_a_call() -> None:
    text = "<function=f>\n<parameter=a>\nif x </function> or y\n</parameter>\n</function>"
    assert calls_of(told_by("qwen3_coder", text)) == [("f", '{"a": "if x </function> or y"}')]


def test_a_form_that_nothing_is_known_of_is_read_whole_by_its_parser() -> None:
    def parse(text: str) -> Sequence[Call]:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError("no call")
        return [as_call(name, {"value": value})]

    format = ToolFormat("<call>", "</call>", parse)
    reader = format.reader()
    assert [*reader.feed("f="), *reader.feed("1")] == []
    assert reader.finish(ended=True) == [Begun("f"), More('{"value": "1"}'), Done()]
    assert read(format, ["no", " call"]) == [Unread("no call")]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(data=st.data())
def test_json_is_followed_to_its_end_whatever_it_holds(data: st.DataObject) -> None:
    anything = st.recursive(
        WILD | scalars, lambda inner: st.lists(inner) | st.dictionaries(WILD, inner), max_leaves=8
    )
    value = data.draw(st.dictionaries(WILD, anything, max_size=3))
    text = json.dumps(value, ensure_ascii=data.draw(st.booleans()), indent=data.draw(st.none() | st.just(1)))
    followed = JsonText()
    assert "".join(followed.feed(piece) for piece in cut(text + " }tail", data.draw(SEEDS))) == text
    assert (followed.over, followed.broken) == (True, False)
    assert " }tail".startswith(followed.rest)


@pytest.mark.parametrize(
    ("text", "certain"),
    [
        ("[1]", ""),
        ("{a", "{"),
        ('{"a" 1', '{"a"'),
        ('{"a": 01}', '{"a":'),
        ('{"a": tru}', '{"a":'),
        ('{"a": 1 2', '{"a": 1'),
        ('{"a": "\\x"}', '{"a": "'),
        ('{"a": "x\n"}', '{"a": "x'),
        ('{"a": [1}', '{"a": [1'),
        ('{"a": 1,}', '{"a": 1,'),
        ("{'a': 1}", "{"),
    ],
)
@pytest.mark.parametrize("size", [1, 100])
def test_json_that_is_none_is_followed_up_to_there(text: str, certain: str, size: int) -> None:
    followed = JsonText()
    got = "".join(followed.feed(text[place : place + size]) for place in range(0, len(text), size))
    assert (got.rstrip(), followed.broken, got + followed.rest) == (certain, True, text)


@pytest.mark.parametrize(
    ("name", "arguments"), [("", {}), (None, {}), ("f", [1]), ("f", "[1]"), ("f", "no json"), ("f", 3)]
)
def test_a_call_needs_a_name_and_an_object_of_arguments(name: object, arguments: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        as_call(name, arguments)


def test_arguments_may_be_missing_or_text_and_half_characters_stay_escapes() -> None:
    assert as_call("f", None) == Call("f", "{}")
    assert as_call("f", '{"a": 1}') == Call("f", '{"a": 1}')
    assert as_call("f", {"a": "é\ud800"}) == Call("f", '{"a": "\\u00e9\\ud800"}')
