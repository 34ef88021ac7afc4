"""What an answer's text is: content, reasoning, calls."""

import json
from collections.abc import Callable, Sequence

import pytest

from engine.reply import Call, Reply, Said, ToolFormat, as_call
from engine.tokenizer import MarkerSplitter
from tests.engine.markers import THINKS_AND_CALLS, machine


def parse(text: str) -> Sequence[Call]:
    call = json.loads(text)
    return [as_call(call.get("name"), call.get("arguments"))]


FORMAT = ToolFormat("<tool_call>", "</tool_call>", parse)


def reply(start: str = "normal", tools: ToolFormat | None = FORMAT) -> Reply:
    return Reply(MarkerSplitter(machine(THINKS_AND_CALLS), start), tools)


def read(answer: Reply, *pieces: str) -> Said:
    said = Said()
    for more in [*(answer.feed(piece) for piece in pieces), answer.finish()]:
        said = Said(said.content + more.content, said.reasoning + more.reasoning, said.calls + more.calls)
    return said


Cut = Callable[[str], Sequence[str]]


def cut_into_characters(text: str) -> Sequence[str]:
    return text


def cut_nowhere(text: str) -> Sequence[str]:
    return [text]


@pytest.mark.parametrize("cut", [cut_nowhere, cut_into_characters])
def test_reasoning_and_content_are_told_apart_and_markers_are_gone(cut: Cut) -> None:
    said = read(reply(), *cut("<think>Let me see.</think>\n\nIt is 4.\n"))
    assert (said.reasoning, said.content) == ("Let me see.", "It is 4.\n")


def test_a_prompt_may_open_the_reasoning_already() -> None:
    answer = reply(start="reasoning")
    assert answer.reasoning
    said = read(answer, "hm</think>yes")
    assert (said.reasoning, said.content) == ("hm", "yes")


@pytest.mark.parametrize("cut", [cut_nowhere, cut_into_characters])
def test_a_call_is_given_whole_with_an_id_of_its_own(cut: Cut) -> None:
    call = '<tool_call>{"name": "weather", "arguments": {"city": "Zürich"}}</tool_call>'
    answer = reply()
    said = read(answer, *cut(f"I look.{call}\n{call}"))
    assert said.content == "I look."
    assert [(each.name, json.loads(each.arguments)) for each in said.calls] == [
        ("weather", {"city": "Zürich"})
    ] * 2
    assert len({each.id for each in said.calls}) == 2
    assert all(each.id.startswith("call_") for each in said.calls)
    assert answer.called


def test_blank_text_around_calls_is_layout_and_not_content() -> None:
    call = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
    assert read(reply(), f"<think>x</think>\n\n{call}\n{call}\n").content == ""


@pytest.mark.parametrize(
    "raw",
    [
        "<tool_call>no json</tool_call>",
        '<tool_call>{"arguments": {}}</tool_call>',
        '<tool_call>{"name": "f", "arguments": [1]}</tool_call>',
        '<tool_call>{"name": "f", "argu',
    ],
)
def test_a_call_that_cannot_be_read_is_content_as_it_was_written(raw: str) -> None:
    answer = reply()
    said = read(answer, "a ", raw)
    assert (said.content, said.calls) == ("a " + raw, ())
    assert not answer.called


def test_a_call_that_the_end_of_the_answer_ends_counts() -> None:
    said = read(reply(), '<tool_call>{"name": "f", "arguments": {}}')
    assert [call.name for call in said.calls] == ["f"]


def test_what_may_become_a_marker_waits_and_is_content_if_it_does_not() -> None:
    answer = reply()
    assert answer.feed("a <thi").content == "a "
    assert answer.held == 4
    assert answer.feed("s").content == "<this"
    assert read(answer, " <tool").content == " <tool"


def test_an_answer_of_a_model_without_markers_is_all_content() -> None:
    assert read(Reply(None, None), "<think>a</think>").content == "<think>a</think>"


@pytest.mark.parametrize(
    ("name", "arguments"), [("", {}), (None, {}), ("f", [1]), ("f", "[1]"), ("f", "no json"), ("f", 3)]
)
def test_a_call_needs_a_name_and_an_object_of_arguments(name: object, arguments: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        as_call(name, arguments)


def test_arguments_may_be_missing_or_text() -> None:
    assert as_call("f", None) == Call("f", "{}")
    assert as_call("f", '{"a": 1}') == Call("f", '{"a": 1}')
