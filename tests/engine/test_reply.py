"""What an answer's text is: content, reasoning, calls."""

import json
from collections.abc import Callable, Sequence

import pytest

from bus.messages.generation import ToolCallDelta
from engine.text.reply import Reply, Said
from engine.text.tokenizer import MarkerSplitter
from engine.tools.calls import Call, as_call
from engine.tools.formats import ToolFormat
from tests.engine.markers import THINKS_AND_CALLS, machine
from tests.engine.tool_formats import FORMS


def parse(text: str) -> Sequence[Call]:
    call = json.loads(text)
    return [as_call(call.get("name"), call.get("arguments"))]


FORMAT = ToolFormat("<tool_call>", "</tool_call>", parse)
"""Of a form that nothing is known of: calls are given whole."""
STREAMED = FORMS["json_tools"].format()


def reply(start: str = "normal", tools: ToolFormat | None = FORMAT) -> Reply:
    return Reply(MarkerSplitter(machine(THINKS_AND_CALLS), start), tools)


def read(answer: Reply, *pieces: str) -> Said:
    return sum([*(answer.feed(piece) for piece in pieces), answer.finish()], start=Said())


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
@pytest.mark.parametrize("tools", [FORMAT, STREAMED], ids=["whole", "streamed"])
def test_calls_are_told_apart_from_content_and_numbered(cut: Cut, tools: ToolFormat) -> None:
    call = '<tool_call>{"name": "weather", "arguments": {"city": "Zürich"}}</tool_call>'
    answer = reply(tools=tools)
    said = read(answer, *cut(f"I look.{call}\n{call}"))
    assert said.content == "I look."
    assert said.calls == tuple(
        ToolCallDelta(index, name="weather", arguments='{"city": "Zürich"}') for index in (0, 1)
    )
    assert answer.called


def test_a_call_is_told_while_it_arrives() -> None:
    answer = reply(tools=STREAMED)
    assert answer.feed('a <tool_call>{"name": "f", "argu').calls == ()
    assert answer.feed('ments": {"a').calls == (ToolCallDelta(0, name="f", arguments='{"a'),)
    assert answer.feed('": 1').calls == (ToolCallDelta(0, arguments='": '),)
    assert answer.feed("2}").calls == (ToolCallDelta(0, arguments="12}"),)
    assert answer.feed("}</tool_call>") == Said()


def test_after_as_many_calls_as_there_may_be_nothing_counts() -> None:
    call = '{"name": "f", "arguments": {}}'
    answer = Reply(MarkerSplitter(machine(THINKS_AND_CALLS), "normal"), STREAMED, most_calls=2)
    listed = f"<tool_call>[{call}, {call}, {call}]</tool_call>more"
    assert len(read(answer, listed).calls) == 2
    assert answer.over
    assert answer.feed(f"<tool_call>{call}</tool_call> and") == Said()


def test_what_follows_a_call_that_broke_off_is_content_again() -> None:
    said = read(reply(tools=STREAMED), '<tool_call>{"name": "f", "arguments": {"a": oh}</tool_call> well')
    assert said.calls == (ToolCallDelta(0, name="f", arguments='{"a": oh}'),)
    assert said.content == "well"


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
    assert said.calls == (ToolCallDelta(0, name="f", arguments="{}"),)


def test_what_may_become_a_marker_waits_and_is_content_if_it_does_not() -> None:
    answer = reply()
    assert answer.feed("a <thi").content == "a "
    assert answer.held == 4
    assert answer.feed("s").content == "<this"
    assert read(answer, " <tool").content == " <tool"


def test_an_answer_of_a_model_without_markers_is_all_content() -> None:
    assert read(Reply(None, None), "<think>a</think>").content == "<think>a</think>"
