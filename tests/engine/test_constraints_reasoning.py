"""Reasoning before an answer is free, ends where its budget says, and what follows is held to the format."""

import pytest

from bus.messages.generation import CallFormat, RegexFormat
from engine.constraints.constraint import Constraint
from engine.constraints.grammars import Grammars
from engine.text.markers import CallMarkers
from tests.engine.constrained import FakeSource, Walker

THINK = ("<think>", "</think>")
XTML = ("<|open|>think<|sep|>", "<|close|>think<|sep|>")
SOURCE = FakeSource(markers=THINK, tokens=THINK, thinking_markers=THINK)
OF_PARTS = FakeSource(
    markers=(*XTML, "<|open|>response<|sep|>", "<|close|>response<|sep|>", "<|close|>message<|sep|>"),
    tokens=("<|open|>", "<|close|>", "<|sep|>"),
    thinking_markers=XTML,
)
DIGITS = RegexFormat("[0-9]{3}")


def free(constraint: Constraint) -> bool:
    return constraint.free


def say(constraint: Constraint, source: FakeSource, text: str) -> None:
    """Token by token, each of which has to be allowed."""
    walker = Walker(Grammars(source))
    for token in source.encode_plainly(text):
        assert free(constraint) or token in walker.allowed(constraint), text
        constraint.take(token)
        assert constraint.failure is None


def texts(constraint: Constraint, source: FakeSource) -> set[str]:
    walker = Walker(Grammars(source))
    return {walker.words.table[token].decode(errors="replace") for token in walker.allowed(constraint)}


def starts_with_digits(constraint: Constraint, source: FakeSource) -> bool:
    return all(text.isdigit() for text in texts(constraint, source))


@pytest.mark.parametrize(("source", "end"), [(SOURCE, THINK[1]), (OF_PARTS, XTML[1])])
def test_reasoning_is_free_and_what_follows_is_held(source: FakeSource, end: str) -> None:
    constraint = Grammars(source).constraint(DIGITS, reasoning=True)
    say(constraint, source, 'Let me see, "}{" <thin')
    assert free(constraint)
    say(constraint, source, end)
    assert not free(constraint)
    say(constraint, source, "123")
    assert not free(constraint)
    assert set(Walker(Grammars(source)).allowed(constraint)) >= source.eos


def test_an_end_of_reasoning_that_is_spelled_in_letters_is_one() -> None:
    constraint = Grammars(SOURCE).constraint(DIGITS, reasoning=True)
    for part in ("I see </", "think", ">"):
        say(constraint, SOURCE, part)
    assert not free(constraint)


def test_one_blank_line_may_follow_reasoning() -> None:
    constraint = Grammars(SOURCE).constraint(DIGITS, reasoning=True)
    say(constraint, SOURCE, "</think>")
    assert {"\n", "\n\n"} & texts(constraint, SOURCE)
    assert not starts_with_digits(constraint, SOURCE)
    constraint.take(SOURCE.encode_plainly("\n")[0])
    assert starts_with_digits(constraint, SOURCE)


def test_text_that_came_with_the_end_of_reasoning_is_the_answers_beginning() -> None:
    constraint = Grammars(SOURCE).constraint(DIGITS, reasoning=True)
    say(constraint, SOURCE, "so</thin")
    for token in SOURCE.encode_plainly("k>12"):
        constraint.take(token)
    assert constraint.failure is None
    assert all(len(text) == 1 for text in texts(constraint, SOURCE))
    wrong = Grammars(SOURCE).constraint(DIGITS, reasoning=True)
    for token in SOURCE.encode_plainly("</think>no"):
        wrong.take(token)
    assert "does not allow" in str(wrong.failure) or "satisfy" in str(wrong.failure)


@pytest.mark.parametrize(("source", "markers"), [(SOURCE, THINK), (OF_PARTS, XTML)])
def test_a_model_may_open_its_reasoning_by_itself(source: FakeSource, markers: tuple[str, str]) -> None:
    constraint = Grammars(source).constraint(DIGITS)
    assert not free(constraint)
    first = source.encode_plainly(markers[0])[0]
    assert first in Walker(Grammars(source)).allowed(constraint)
    say(constraint, source, markers[0])
    assert free(constraint)
    say(constraint, source, "hm" + markers[1] + "042")
    assert source.encode_plainly(markers[0])[0] not in Walker(Grammars(source)).allowed(constraint)


def test_after_the_answer_began_it_is_too_late_for_reasoning() -> None:
    constraint = Grammars(SOURCE).constraint(DIGITS)
    say(constraint, SOURCE, "1")
    assert "<think>" not in texts(constraint, SOURCE)


def test_plain_text_has_no_reasoning() -> None:
    constraint = Grammars(SOURCE).constraint(DIGITS, chat=False)
    assert starts_with_digits(constraint, SOURCE)


@pytest.mark.parametrize(("source", "end"), [(SOURCE, THINK[1]), (OF_PARTS, XTML[1])])
def test_reasoning_ends_when_its_budget_is_spent(source: FakeSource, end: str) -> None:
    constraint = Grammars(source).constraint(DIGITS, reasoning=True, reasoning_tokens=4)
    walker = Walker(Grammars(source))
    for _ in range(4):
        assert free(constraint)
        constraint.take(source.encode_plainly("a")[0])
    marker = source.encode_plainly(end)
    assert constraint.forced() == tuple(marker)
    for token in marker:
        assert walker.allowed(constraint) == [token]
        constraint.take(token)
    assert not free(constraint)
    say(constraint, source, "777")


def test_an_end_that_is_under_way_is_not_begun_again() -> None:
    said = "ab<|close|>"
    budget = len(OF_PARTS.encode_plainly(said))
    constraint = Grammars(OF_PARTS).constraint(DIGITS, reasoning=True, reasoning_tokens=budget)
    say(constraint, OF_PARTS, said)
    close = OF_PARTS.encode_plainly("<|close|>")
    assert constraint.forced() == tuple(OF_PARTS.encode_plainly(XTML[1])[len(close) :])


def test_no_tokens_for_reasoning_mean_none() -> None:
    inside = Grammars(SOURCE).constraint(DIGITS, reasoning=True, reasoning_tokens=0)
    assert texts(inside, SOURCE) == {"</think>"}
    before = Grammars(SOURCE).constraint(DIGITS, reasoning_tokens=0)
    assert "<think>" not in texts(before, SOURCE)


def test_a_budget_holds_without_a_format_and_for_all_reasoning_of_an_answer() -> None:
    constraint = Grammars(SOURCE).constraint(None, reasoning_tokens=3)
    say(constraint, SOURCE, "Well. <think>a</think> And")
    assert free(constraint)
    say(constraint, SOURCE, "<think>")
    assert free(constraint)
    constraint.take(SOURCE.encode_plainly("b")[0])
    assert texts(constraint, SOURCE) == {"</think>"}
    say(constraint, SOURCE, "</think>")
    assert free(constraint)


def test_a_sequence_that_was_cut_off_in_its_reasoning_goes_on_there() -> None:
    spent = SOURCE.encode_plainly("a" * 2)
    constraint = Grammars(SOURCE).constraint(
        DIGITS, reasoning=True, reasoning_tokens=len(spent), generated=spent
    )
    twin = constraint.fork()
    assert texts(constraint, SOURCE) == {"</think>"}
    say(twin, SOURCE, "</think>12")
    assert texts(constraint, SOURCE) == {"</think>"}


def test_a_call_may_come_out_of_the_reasoning() -> None:
    tool = '{"function": {"name": "now"}}'
    calls = CallMarkers("json_tools", "<tool_call>", "</tool_call>")
    source = FakeSource(tokens=THINK, markers=THINK, thinking_markers=THINK, call_markers=calls)
    constraint = Grammars(source).constraint(CallFormat(), [tool], reasoning=True)
    say(constraint, source, "I need the time.<tool_call>")
    assert not free(constraint)
    say(constraint, source, '\n{"name": "now", "arguments": {}}\n</tool_call>')
    assert set(Walker(Grammars(source)).allowed(constraint)) >= source.eos


def test_markers_that_structure_an_answer_may_stand_around_it() -> None:
    constraint = Grammars(OF_PARTS).constraint(DIGITS, reasoning=True)
    say(constraint, OF_PARTS, "x<|close|>think<|sep|><|open|>response<|sep|>555<|close|>response<|sep|>")
    assert set(Walker(Grammars(OF_PARTS)).allowed(constraint)) >= OF_PARTS.eos


def test_headers_that_are_taken_out_of_an_answer_are_free() -> None:
    header = [("to=self:", "reasoning"), ("to=user:", "normal")]
    source = FakeSource(start="header", edges={"header": header, "reasoning": [(";", "header")]})
    constraint = Grammars(source).constraint(DIGITS)
    assert free(constraint)
    say(constraint, source, "to=self: hm; to=user:")
    assert not free(constraint)
    say(constraint, source, "909")
