"""How a prompt begins is told by hashes, the same everywhere: two share them as far as they are alike."""

from msgspec.structs import replace

from bus.messages.generation import (
    ChatMessage,
    ChatPrompt,
    InfillPrompt,
    Prompt,
    TextPrompt,
    TokenPrompt,
    ToolCall,
)
from bus.trail import BETWEEN, FIRST, LAST, TEXT_STRIDE, TOKEN_STRIDE, shared, trail_of

SYSTEM, HELLO = ChatMessage("system", "Be kind."), ChatMessage("user", "Hello!")
TOOL = '{"type": "function"}'


def conversation(turns: int, system: str = "Be kind.") -> ChatPrompt:
    said = [ChatMessage(role, f"{role} {turn}") for turn in range(turns) for role in ("user", "assistant")]
    return ChatPrompt((ChatMessage("system", system), *said, HELLO))


def common(one: Prompt, other: Prompt) -> int:
    """How many of the marks of one the other has."""
    return shared(trail_of(one), set(trail_of(other)))


def test_each_message_has_a_mark_of_63_bits() -> None:
    trail = trail_of(conversation(3))
    assert len(set(trail)) == 8
    assert all(0 <= mark < 2**63 for mark in trail)


def test_the_next_turn_begins_with_the_whole_trail_of_the_one_before() -> None:
    earlier, later = trail_of(conversation(3)), trail_of(conversation(4))
    assert later[: len(earlier) - 1] == earlier[:-1]
    grown = ChatPrompt((*conversation(3).messages, ChatMessage("assistant", "Hi."), ChatMessage("user", "?")))
    assert trail_of(grown)[: len(earlier)] == earlier


def test_prompts_share_marks_up_to_where_they_differ() -> None:
    whole = conversation(4)
    for place in range(len(whole.messages)):
        messages = list(whole.messages)
        messages[place] = replace(messages[place], content="something else")
        assert common(ChatPrompt(tuple(messages)), whole) == place


def test_every_field_that_a_template_can_show_counts() -> None:
    call = ToolCall("c1", "weather", "{}")
    one = ChatMessage("assistant", "Well.", reasoning="Hm.", name="a", tool_calls=(call,), tool_call_id="c0")
    others = [
        replace(one, role="user"),
        replace(one, content="Well!"),
        replace(one, reasoning=None),
        replace(one, name="b"),
        replace(one, tool_calls=(replace(call, arguments='{"a": 1}'),)),
        replace(one, tool_call_id=None),
        replace(one, content="Well.Hm.", reasoning=None),
    ]
    trails = {trail_of(ChatPrompt((each,))) for each in (one, *others)}
    assert len(trails) == len(others) + 1


def test_tools_and_the_templates_options_come_before_all_messages() -> None:
    plain = ChatPrompt((SYSTEM, HELLO))
    variants = [
        plain,
        replace(plain, tools=(TOOL,)),
        replace(plain, template_options='{"a": 1}'),
        replace(plain, thinking=True),
        replace(plain, thinking=False),
        replace(plain, effort="high"),
    ]
    for one in variants:
        assert [common(one, other) for other in variants if other is not one] == [0] * (len(variants) - 1)
    armed = replace(plain, tools=(TOOL,))
    assert common(armed, ChatPrompt((HELLO,), tools=(TOOL,))) == 1, "tools alone are a beginning"


def test_an_answer_without_text_is_the_same_whichever_way_it_comes_back() -> None:
    call = ToolCall("c1", "weather", "{}")
    empty, none = (ChatMessage("assistant", content, tool_calls=(call,)) for content in ("", None))
    assert trail_of(ChatPrompt((HELLO, empty))) == trail_of(ChatPrompt((HELLO, none)))


def test_texts_and_tokens_have_a_mark_at_every_stride() -> None:
    text = "".join(chr(97 + place % 26) for place in range(3 * TEXT_STRIDE))
    assert len(trail_of(TextPrompt(text))) == 3
    assert common(TextPrompt(text[:-1] + "!"), TextPrompt(text)) == 2
    assert trail_of(TextPrompt(text + "more")) == trail_of(TextPrompt(text))
    assert trail_of(TextPrompt("short")) == ()
    tokens = tuple(range(3 * TOKEN_STRIDE))
    assert len(trail_of(TokenPrompt(tokens))) == 3
    assert common(TokenPrompt((*tokens[:-1], 0)), TokenPrompt(tokens)) == 2
    assert common(InfillPrompt(text, "a" * TEXT_STRIDE), InfillPrompt(text, "b" * TEXT_STRIDE)) == 3
    assert common(InfillPrompt(text, ""), TextPrompt(text)) == 0


def test_a_long_trail_is_thinned_to_a_bounded_one() -> None:
    for turns in (10, 31, 32, 33, 100, 1000):
        trail = trail_of(conversation(turns))
        assert len(trail) <= FIRST + BETWEEN + LAST
        assert len(trail) >= min(2 * turns + 2, FIRST + LAST + BETWEEN // 2 - 1)


def test_a_conversation_that_grows_by_a_turn_finds_its_last_mark() -> None:
    messages = conversation(200).messages
    for count in range(1, len(messages) - 2):
        earlier, later = ChatPrompt(messages[:count]), ChatPrompt(messages[: count + 2])
        assert trail_of(earlier)[-1] in trail_of(later)


def test_long_prompts_with_a_long_beginning_in_common_find_most_of_it() -> None:
    messages = conversation(500).messages
    long = ChatPrompt(messages)
    for count in (20, 100, 300, 700):
        other = ChatPrompt((*messages[:count], *(ChatMessage("user", f"else {n}") for n in range(300))))
        place = common(other, long)
        assert place > 0
        beginnings = [trail_of(ChatPrompt(messages[:end]))[-1] for end in range(1, count + 1)]
        found = beginnings.index(trail_of(other)[place - 1]) + 1
        assert found > count - 64 or found >= count // 2


def test_a_mark_is_the_same_in_every_process_and_version() -> None:
    """Nodes compare them: who changes what is hashed has nodes find nothing of each other's."""
    chat = ChatPrompt((SYSTEM, HELLO), tools=(TOOL,))
    assert trail_of(chat) == (493326300011962766, 6317309887683217431, 7578320569321996945)
    assert trail_of(TextPrompt("a" * TEXT_STRIDE)) == (3377927337437426955,)
    assert trail_of(TokenPrompt(tuple(range(TOKEN_STRIDE)))) == (2675786006067513174,)


def test_half_of_a_surrogate_pair_is_no_reason_to_fail() -> None:
    assert len(trail_of(ChatPrompt((ChatMessage("user", "\ud800"),)))) == 1
