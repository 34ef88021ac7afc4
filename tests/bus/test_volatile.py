"""What a program writes for its own server is no part of the conversation."""

import pytest

from bus.messages.generation import ChatMessage
from bus.volatile import steady

USER = ChatMessage("user", "Hi")


def header(cch: str) -> str:
    return f"x-anthropic-billing-header: cc_version=2.1.177.01c; cc_entrypoint=cli; cch={cch};"


def system(content: str, role: str = "system") -> tuple[ChatMessage, ...]:
    return (ChatMessage(role, content), USER)


@pytest.mark.parametrize("role", ["system", "developer"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_a_header_that_changes_each_turn_is_left_out(role: str, end: str) -> None:
    turns = {
        steady(system(f"{header(cch)}{end}You are Claude Code.\nBe brief.", role))
        for cch in ("36ee5", "0aaa9")
    }
    assert turns == {system("You are Claude Code.\nBe brief.", role)}


def test_several_headers_are_left_out_and_a_message_of_nothing_else_is_gone() -> None:
    assert steady(system(f"{header('1')}\nx-anthropic-session: a=b;\n\nYou are")) == system("You are")
    assert steady(system(header("1"))) == (USER,)


@pytest.mark.parametrize(
    "messages",
    [
        (),
        (USER,),
        system("You are Claude Code."),
        system("Never write\n" + header("1")),
        system("Today is 2026-01-01, 12:00:01."),
        system("x-anthropic-version is a header"),
        (ChatMessage("user", header("1")),),
        (ChatMessage("system", None), USER),
    ],
)
def test_everything_else_stays_as_it_is(messages: tuple[ChatMessage, ...]) -> None:
    assert steady(messages) is messages
