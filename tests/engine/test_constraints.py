"""Whatever a model says that is held to a format, it says what the format allows."""

import json
import re

import mlx.core as mx
import numpy as np
import pytest
from jsonschema import Draft202012Validator

from bus.messages.generation import CallFormat, Format, GrammarFormat, JsonFormat, RegexFormat
from engine.constraints.errors import GrammarError
from engine.constraints.grammars import Grammars
from engine.constraints.masks import apply, fill
from engine.text.detokenizer import Spelling
from tests.engine.constrained import FakeSource, Walker, answers, plain
from tests.engine.schemas import NAMED, REFUSED, Schema, made_up

GRAMMARS = plain()
CLOSES = ("abbc", "@a.io")
"""What a model without sense would not hit upon."""
FORMATS = Draft202012Validator.FORMAT_CHECKER


def reason(format: Format, grammars: Grammars = GRAMMARS) -> str:
    with pytest.raises(GrammarError) as caught:
        grammars.check(format)
    return str(caught.value)


def check(schema: Schema, seeds: range = range(3)) -> None:
    validator = Draft202012Validator(schema, format_checker=FORMATS)
    for text in answers(GRAMMARS, JsonFormat(json.dumps(schema)), seeds=seeds, closes=CLOSES):
        errors = list(validator.iter_errors(json.loads(text)))
        assert not errors, (text, errors)


# -- JSON ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMED)
def test_what_is_said_is_valid_under_its_schema(name: str) -> None:
    check(NAMED[name])


@pytest.mark.parametrize("seed", range(12))
def test_what_is_said_is_valid_under_schemas_that_nobody_thought_of(seed: int) -> None:
    for schema in made_up(seed, 2):
        check(schema, range(2))


@pytest.mark.parametrize("word", REFUSED)
def test_what_could_not_be_held_is_refused_and_not_ignored(word: str) -> None:
    assert word in reason(JsonFormat(json.dumps(REFUSED[word])))


def test_without_a_schema_the_answer_is_an_object() -> None:
    for text in answers(GRAMMARS, JsonFormat(), seeds=range(6)):
        assert isinstance(json.loads(text), dict)


def test_between_tokens_of_json_stands_a_space_or_one_line_break_at_most() -> None:
    walker = Walker(GRAMMARS, fond_of=" \n\t")
    for seed in range(6):
        constraint = GRAMMARS.constraint(JsonFormat('{"type":"array","items":{"type":"null"},"maxItems":3}'))
        text = walker.text(walker.walk(constraint, seed))
        assert all(re.fullmatch(r" ?|\n *|\n\t*", space) for space in re.findall(r"\s+", text))
        assert len(max(re.findall(r"\s+", text), default="", key=len)) <= 25


def test_a_schema_cannot_change_how_it_is_read() -> None:
    lenient = {"x-guidance": {"lenient": True}, "not": {"type": "string"}}
    assert "not" in reason(JsonFormat(json.dumps(lenient)))


# -- other formats -------------------------------------------------------------------------------


def test_an_answer_matches_its_regular_expression() -> None:
    pattern = r"[A-Z][a-z]{2,4} (\d{1,3}|none)"
    for text in answers(GRAMMARS, RegexFormat(pattern), seeds=range(6)):
        assert re.fullmatch(pattern, text)


def test_an_answer_is_a_sentence_of_its_grammar() -> None:
    grammar = 'start: sum\nsum: term ("+" term){0,3}\nterm: NUMBER | "(" sum ")"\nNUMBER: /[0-9]{1,3}/'
    for text in answers(GRAMMARS, GrammarFormat(grammar), seeds=range(6)):
        assert re.fullmatch(r"[0-9+()]+", text)
        assert text.count("(") == text.count(")")


@pytest.mark.parametrize(
    ("format", "word"),
    [
        (RegexFormat("a(b"), "unclosed group"),
        (RegexFormat("(?=a)b"), "look-around"),
        (GrammarFormat("start: nothing"), "nothing"),
        (GrammarFormat("begin: /a/"), "start"),
        (JsonFormat("{"), "no JSON"),
        (JsonFormat("[]"), "object"),
        (JsonFormat("false"), "object"),
        (CallFormat(), "does not call tools"),
    ],
)
def test_what_is_no_format_is_refused_with_the_reason(format: Format, word: str) -> None:
    assert word in reason(format)


def test_tokens_in_the_manner_of_sentencepiece_are_known_by_their_text() -> None:
    class Pieces(FakeSource):
        def spelling(self) -> tuple[Spelling, bool]:
            return Spelling.SENTENCEPIECE, True

        def pieces(self) -> list[str]:
            return ["<|end|>", "\u2581no", "<0x0A>", "no", "\u2581", "<|stop|>"]

        def __len__(self) -> int:
            return 6

    source = Pieces(alphabet="xxxx")
    source.eos = source.special = frozenset({0, 5})
    grammars = Grammars(source)
    assert Walker(grammars).allowed(grammars.constraint(RegexFormat("( no|\n)+"))) == [1, 2, 4]


def test_a_tokenizer_of_which_nothing_is_known_holds_to_nothing() -> None:
    class Opaque(FakeSource):
        def spelling(self) -> tuple[Spelling, bool]:
            return Spelling.OPAQUE, False

    grammars = Grammars(Opaque())
    assert "tokenizer" in reason(JsonFormat(), grammars)
    constraint = grammars.constraint(JsonFormat())
    assert constraint.free
    assert "tokenizer" in str(constraint.failure)


# -- hostile formats -----------------------------------------------------------------------------


def deep(levels: int) -> str:
    return '{"type":"array","items":' * levels + "{}" + "}" * levels


def chain(links: int) -> str:
    """Definitions each of which refers to the next."""
    definitions: dict[str, Schema] = {
        f"d{link}": {"type": "object", "properties": {"a": {"$ref": f"#/$defs/d{link + 1}"}}}
        for link in range(links)
    }
    return json.dumps({"$ref": "#/$defs/d0", "$defs": {**definitions, f"d{links}": {"type": "null"}}})


def product(factors: int) -> str:
    """An intersection of alternatives, each with each."""
    either: list[Schema] = [
        {"anyOf": [{"properties": {f"p{i}{j}": {}}} for i in range(factors)]} for j in range(factors)
    ]
    return json.dumps({"type": "object", "allOf": either})


def rules(count: int) -> str:
    return (
        "start: r0\n" + "\n".join(f'r{rule}: r{rule + 1} | "x"' for rule in range(count)) + f'\nr{count}: "y"'
    )


def wide(count: int) -> str:
    return json.dumps({"type": "object", "properties": {f"p{name}": {} for name in range(count)}})


TOO_MUCH: dict[str, Format] = {
    "long enum": JsonFormat(json.dumps({"enum": [f"x{number}" for number in range(30_000)]})),
    "enum of objects": JsonFormat(json.dumps({"enum": [{"a": number} for number in range(3_000)]})),
    "deep": JsonFormat(deep(100)),
    "very deep": JsonFormat(deep(100_000)),
    "brackets": JsonFormat("[" * 100_000),
    "product": JsonFormat(product(8)),
    "chain": JsonFormat(chain(1_000)),
    "wide": JsonFormat(wide(1_000)),
    "many": JsonFormat(json.dumps({"anyOf": [{"const": number} for number in range(5_000)]})),
    "long pattern": JsonFormat(json.dumps({"type": "string", "pattern": "(a|b|ab)*" * 2_000})),
    "multiples": JsonFormat(json.dumps({"type": "integer", "multipleOf": 982_451})),
    "long expression": RegexFormat("(a|b|ab)*" * 2_000),
    "parentheses": GrammarFormat("start: " + "(" * 30_000),
    "chain of rules": GrammarFormat(rules(3_000)),
    "long grammar": GrammarFormat("start: " + '"x" ' * 20_000),
}


@pytest.mark.parametrize("format", TOO_MUCH.values(), ids=TOO_MUCH)
def test_formats_that_are_too_much_are_refused(format: Format) -> None:
    assert reason(format)


@pytest.mark.parametrize(
    "pattern", ["((a{1,100}){1,100}){1,100}", "(.*a){20}.{20}", ".*a.{30}", "(a|a)*b" * 50]
)
def test_patterns_that_would_explode_hold_as_long_as_they_can(pattern: str) -> None:
    try:
        GRAMMARS.check(RegexFormat(pattern))
    except GrammarError:
        return
    constraint, walker = GRAMMARS.constraint(RegexFormat(pattern)), Walker(GRAMMARS)
    for _ in range(20):
        allowed = walker.allowed(constraint)
        if constraint.failure is not None:
            return
        constraint.take(allowed[0])


# -- batches -------------------------------------------------------------------------------------


def test_sixteen_rows_are_held_each_to_its_own_format() -> None:
    digits, anything = RegexFormat("[0-9]{4}"), JsonFormat()
    rows = [
        None if place % 4 == 3 else GRAMMARS.constraint(digits if place % 2 else anything)
        for place in range(16)
    ]
    words = Walker(GRAMMARS).words
    beyond = 40
    logits = mx.zeros((16, len(words) + beyond))
    held = np.array(apply(logits, rows))
    for place, row in enumerate(rows):
        finite = np.isfinite(held[place])
        texts = {words.table[token] for token in np.flatnonzero(finite[: len(words)])}
        if row is None:
            assert finite.all()
        elif place % 2:
            assert all(re.fullmatch(rb"[0-9]{1,4}", text) for text in texts)
            assert not finite[len(words) :].any()
        else:
            assert all(text.startswith(b"{") for text in texts)


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16, mx.float16])
def test_logits_that_are_allowed_stay_as_they_are(dtype: mx.Dtype) -> None:
    constraint = GRAMMARS.constraint(RegexFormat("[ab]+"))
    logits = mx.random.normal((1, len(Walker(GRAMMARS).words)), key=mx.random.key(0)).astype(dtype)
    held = apply(logits, [constraint])
    assert held.dtype == dtype
    finite = mx.isfinite(held.astype(mx.float32))
    assert mx.array_equal(mx.where(finite, held, 0), mx.where(finite, logits, 0))


def test_a_batch_in_which_nobody_is_held_is_left_alone() -> None:
    logits = mx.zeros((3, 8))
    free = GRAMMARS.constraint(None)
    assert free.free
    assert apply(logits, [None, free, None]) is logits


def test_a_row_that_fails_leaves_the_others_held() -> None:
    rows = [GRAMMARS.constraint(RegexFormat("a+")) for _ in range(2)]
    rows[0].take(Walker(GRAMMARS).words.encode("z")[0])
    masks = fill(rows)
    assert rows[0].failure is not None
    assert rows[0].free
    assert masks.free == (True, False)


def test_an_answer_that_no_token_can_continue_fails_with_a_reason() -> None:
    grammars = Grammars(FakeSource(alphabet="a"))
    constraint = grammars.constraint(RegexFormat("a{8}b"))
    for _ in range(8):
        assert Walker(grammars).allowed(constraint)
        constraint.take(grammars.constraint(None).words.encode("a")[0])
    masks = fill([constraint])
    assert "no token is left" in str(constraint.failure)
    assert masks.free == (True,)


# -- the end -------------------------------------------------------------------------------------


def test_an_answer_that_is_complete_may_only_end_with_any_of_the_models_ends() -> None:
    walker = Walker(GRAMMARS)
    constraint = GRAMMARS.constraint(RegexFormat("ab?"))
    constraint.take(walker.words.encode("a")[0])
    assert set(walker.allowed(constraint)) == {*walker.words.eos, walker.words.encode("b")[0]}
    constraint.take(walker.words.encode("b")[0])
    assert len(walker.words.eos) == 2
    assert set(walker.allowed(constraint)) == set(walker.words.eos)
    for end in sorted(walker.words.eos) * 2:
        constraint.take(end)
        assert set(walker.allowed(constraint)) == set(walker.words.eos)


def test_a_sequence_that_was_cut_off_goes_on_where_it_stood() -> None:
    format = JsonFormat(json.dumps(NAMED["recursive"]))
    walker = Walker(GRAMMARS)
    tokens = walker.walk(GRAMMARS.constraint(format), seed=5)
    whole = GRAMMARS.constraint(format)
    for place, token in enumerate(tokens):
        resumed = GRAMMARS.constraint(format, generated=tokens[:place])
        assert walker.allowed(resumed) == walker.allowed(whole)
        whole.take(token)


def test_tokens_that_may_yet_be_taken_back_are_tried_on_a_twin() -> None:
    constraint, walker = GRAMMARS.constraint(RegexFormat("abc")), Walker(GRAMMARS)
    before = walker.allowed(constraint)
    constraint.fork().take(before[0])
    assert walker.allowed(constraint) == before


def test_what_must_come_next_is_known_ahead() -> None:
    format = JsonFormat('{"const": "the only answer"}')
    constraint, walker = GRAMMARS.constraint(format), Walker(GRAMMARS)
    ahead = constraint.forced()
    assert walker.text(ahead).startswith('"the only')
    for token in ahead:
        assert token in walker.allowed(constraint)
        constraint.take(token)
    assert constraint.failure is None
