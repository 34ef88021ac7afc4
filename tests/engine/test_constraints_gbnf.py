"""A grammar in GBNF allows the very texts that it describes, however they could be taken apart."""

import json
from collections.abc import Mapping
from functools import reduce
from itertools import accumulate, product
from random import Random
from typing import Final

import pytest
from llguidance import LLMatcher, LLTokenizer

from bus.messages.generation import GrammarFormat, GrammarSyntax
from engine.constraints import lexemes
from engine.constraints.errors import GrammarError
from engine.constraints.gbnf import Chars, Either, Name, Node, Series, Times, rules_of
from engine.constraints.lexemes import lark_of
from tests.engine.constrained import answers, plain
from tests.engine.gbnf_grammars import NAMED

GRAMMARS = plain()
BYTES: Final = LLTokenizer("byte")
LONGEST: Final = 4
ALPHABET: Final = "abc"
WORDS: Final = [
    "".join(letters) for length in range(LONGEST + 1) for letters in product("abc", repeat=length)
]


class Recogniser:
    """What llguidance makes of a grammar."""

    def __init__(self, grammar: str) -> None:
        parts = [{"name": "content", "lark_grammar": lark_of(rules_of(grammar))}]
        self._matcher = LLMatcher(BYTES, json.dumps({"grammars": parts}), log_level=0)
        assert not self._matcher.is_error(), self._matcher.get_error()

    def allows(self, text: str) -> bool:
        matcher, tokens = self._matcher.deep_copy(), list(text.encode())
        if matcher.validate_tokens(tokens) < len(tokens):
            return False
        matcher.consume_tokens(tokens)
        return matcher.is_accepting()


@pytest.mark.parametrize("name", NAMED)
def test_well_known_grammars_allow_what_they_should_and_nothing_else(name: str) -> None:
    recogniser = Recogniser(NAMED[name].grammar)
    for text in NAMED[name].allowed:
        assert recogniser.allows(text), text
    for text in NAMED[name].others:
        assert not recogniser.allows(text), text


# -- grammars that nobody thought of -------------------------------------------------------------


def joined(one: frozenset[str], other: frozenset[str]) -> frozenset[str]:
    return frozenset(a + b for a in one for b in other if len(a) + len(b) <= LONGEST)


def repeated(once: frozenset[str], least: int, most: int) -> frozenset[str]:
    times = accumulate([once] * most, joined, initial=frozenset([""]))
    return frozenset().union(*list(times)[least:])


def language(rules: Mapping[str, Node]) -> frozenset[str]:
    """All texts of a grammar that are short, by the meaning of its words."""
    known: dict[str, frozenset[str]] = dict.fromkeys(rules, frozenset())

    def texts(node: Node) -> frozenset[str]:
        match node:
            case Chars(ranges):
                return frozenset(c for c in ALPHABET if any(a <= ord(c) <= b for a, b in ranges))
            case Name(name):
                return known[name]
            case Series(parts):
                return reduce(joined, map(texts, parts), frozenset([""]))
            case Either(options):
                return frozenset().union(*map(texts, options))
            case Times(what, least, most):
                return repeated(texts(what), least, least + LONGEST if most is None else most)

    while (now := {name: texts(node) for name, node in rules.items()}) != known:
        known = now
    return known["root"]


def made_up(chance: Random) -> str:
    names = ["root", "x", "y-z"][: chance.randint(1, 3)]
    pieces = [
        *('"a"', '"b"', '"ab"', '"ba"', '""', "[ab]", "[bc]", "[^a]", "[a]*", "[ab]+", "[bc]*", '"b"*'),
        *("[c]{1,2}", "[b]{0,2}", *names),
    ]

    def phrase(depth: int) -> str:
        match chance.randrange(5) if depth else 0:
            case 0 | 1:
                return chance.choice(pieces)
            case 2:
                return " ".join(phrase(depth - 1) for _ in range(chance.randint(2, 3)))
            case 3:
                return "(" + " | ".join(phrase(depth - 1) for _ in range(chance.randint(2, 3))) + ")"
            case _:
                times = chance.choice(["*", "+", "?", "{1,2}", "{2}", "{0,2}", "{2,}"])
                return f"({phrase(depth - 1)}){times}"

    return "\n".join(f"{name} ::= {phrase(3)} | {phrase(2)}" for name in names)


@pytest.mark.parametrize("seed", range(4))
def test_any_grammar_allows_exactly_its_language(seed: int) -> None:
    chance = Random(seed)
    for _ in range(20):
        grammar = made_up(chance)
        allowed = language(rules_of(grammar))
        recogniser = Recogniser(grammar) if allowed else None
        for word in WORDS if recogniser else ():
            assert recogniser is None or recogniser.allows(word) == (word in allowed), (grammar, word)


def test_a_run_is_one_lexeme_where_nothing_else_could_be_meant() -> None:
    assert "]+/" in lark_of(rules_of('root ::= [a-z]+ "."'))
    assert "]+/" in lark_of(rules_of(r'root ::= "<" ([a-z] | "\\" [a-z])* ">"'))
    assert lark_of(rules_of(NAMED["json"].grammar)).count("]+/") == 3, "two within strings, one of digits"
    assert "]+/" not in lark_of(rules_of('root ::= [a-z]+ "z"'))
    assert "]+/" not in lark_of(rules_of('root ::= [a-z]+ "!" | "if" "?"'))


def test_a_grammar_that_is_too_much_to_look_at_has_no_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    grammar = 'root ::= ([a-z]+ "." | [0-9]+ ";")+'
    assert "]+/" in lark_of(rules_of(grammar))
    monkeypatch.setattr(lexemes, "MOST_EFFORT", 1)
    assert "]+/" not in lark_of(rules_of(grammar))


# -- how it is written ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grammar", "text"),
    [
        (r'root ::= "\x41\u00e9\U0001F600\t\\\"\[\]"', 'Aé😀\t\\"[]'),
        (r"root ::= [\x41-\x43\]\-^]+", "AC]-^"),
        ("root ::= [a-]{2}", "a-"),
        ("root ::= .{3}", "a\né"),
        ('root ::=  # comment\n  a_1 |\n  B-2\n\n# more\na_1 ::= "x"\nB-2 ::= (\n"y"\n)', "y"),
        ('root ::= "a" b\n  | "c"\nb ::= | "b"', "c"),
        ('root ::= "a"{2,}', "aaaa"),
        ("root ::= [^\\r\\n]+", "a/b//c"),
        ('root ::= "a" root | ""', "aaa"),
        ('root ::= root "a" | "b"', "baa"),
        ('root ::= ("a"?)* "!"', "aa!"),
    ],
)
def test_the_syntax_is_llama_cpps(grammar: str, text: str) -> None:
    assert Recogniser(grammar).allows(text)


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        ('main ::= "a"', "no rule `root`"),
        ("root ::= a-b", "no rule `a-b`"),
        ('root ::= "a"\nroot ::= "b"', "two rules `root`"),
        ('root ::= ("a"', "`)` is missing"),
        ('root ::= "a")', "begins with its name"),
        ("root ::= [z-a]", "before its first"),
        ("root ::= []", "no character"),
        (r'root ::= "\q"', "no escape"),
        (r'root ::= "\ud800"', "surrogate"),
        (r'root ::= "\UFFFFFFFF"', "no character"),
        ('root ::= "a"{3,2}', "bounds"),
        ('root ::= "a"{5000}', "bounds"),
        ('root ::= "a', "no GBNF"),
        ("root ::= <think>", "no GBNF"),
        ("root ::= " + "(" * 60, "nested"),
        ("root ::= " + "[a]" * 1001, "1000 characters"),
        ("root ::= a\n" + "a ::= a\n" * 400, "400 are the most"),
    ],
)
def test_what_is_no_grammar_is_refused_with_the_reason(grammar: str, reason: str) -> None:
    with pytest.raises(GrammarError) as caught:
        GRAMMARS.check(GrammarFormat(grammar, GrammarSyntax.GBNF))
    assert reason in str(caught.value)


def test_an_answer_is_held_to_it() -> None:
    grammar = NAMED["json"].grammar
    for text in answers(GRAMMARS, GrammarFormat(grammar, GrammarSyntax.GBNF), seeds=range(4), closes=('"}',)):
        assert isinstance(json.loads(text), dict)
