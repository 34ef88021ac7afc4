"""What a model's own chat template makes of a conversation: reasoning on and off, and what prompts share."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path

import pytest
from tokenizers import AddedToken
from tokenizers import Tokenizer as Tokens

from bus.messages.generation import ChatMessage, ChatPrompt, InfillPrompt
from engine.text.infill import NoInfill, infill
from engine.text.markers import CallMarkers, Thinking
from engine.text.template import ChatTemplate, Rendered
from engine.text.thinking import Template, Wish, options, template_of, template_of_function
from engine.text.tokenizer import Tokenizer
from engine.tools.calls import Begun, More

GUIDE = Path(__file__).parents[2] / "models" / "guide"
TURNS = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
ASKS = "{% if add_generation_prompt %}<|assistant|>{% endif %}"
THINKS = "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
MARKED = "{% if false %}</think>{% endif %}"
SWITCHED = (
    "{% if add_generation_prompt %}<|assistant|>"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
    "{% endif %}"
)
MARKERS = ("<think>", "</think>")
FIM = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")

Model = Callable[[str, Sequence[str]], Tokenizer]


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """The built-in model's tokenizer with another template, and with tokens of its own."""

    def made(template: str, added: Sequence[str] = ()) -> Tokenizer:
        folder = tmp_path / "model"
        shutil.copytree(GUIDE, folder, ignore=shutil.ignore_patterns("*.safetensors"))
        tokens = Tokens.from_file(str(folder / "tokenizer.json"))
        tokens.add_special_tokens([AddedToken(text, special=True) for text in added])
        tokens.save(str(folder / "tokenizer.json"))
        (folder / "chat_template.jinja").write_text(template)
        return Tokenizer(folder, {})

    return made


@pytest.fixture(scope="module")
def guide() -> Tokenizer:
    return Tokenizer(GUIDE, {})


# -- reasoning -------------------------------------------------------------------------------------


def asked(
    tokenizer: Tokenizer,
    thinking: bool | None = None,
    effort: str | None = None,
    own: str = "{}",
) -> tuple[str, bool]:
    """How the prompt of a question ends, and whether it ends in reasoning."""
    prompt = ChatPrompt((ChatMessage("user", "Hi"),), template_options=own, thinking=thinking, effort=effort)
    rendered = ChatTemplate(tokenizer).render(prompt)
    return tokenizer.decode(rendered.tokens).rpartition("<|assistant|>")[2], rendered.reasoning


CLOSED = "<think>\n\n</think>\n\n"


def test_a_template_with_a_switch_is_told_by_it(model: Model) -> None:
    tokenizer = model(TURNS + SWITCHED, MARKERS)
    assert asked(tokenizer) == ("", False)
    assert asked(tokenizer, thinking=True) == ("", False)
    assert asked(tokenizer, thinking=False) == (CLOSED, False)
    assert asked(tokenizer, effort="none") == (CLOSED, False)
    assert asked(tokenizer, effort="high") == ("", False)


def test_what_the_client_gives_the_template_itself_wins(model: Model) -> None:
    tokenizer = model(TURNS + SWITCHED, MARKERS)
    assert asked(tokenizer, thinking=True, own='{"enable_thinking": false}') == (CLOSED, False)
    assert asked(tokenizer, thinking=False, own='{"enable_thinking": true}') == ("", False)


def test_reasoning_that_the_template_always_opens_is_closed_at_once(model: Model) -> None:
    tokenizer = model(TURNS + THINKS, MARKERS)
    assert asked(tokenizer) == ("<think>\n", True)
    assert asked(tokenizer, thinking=True) == ("<think>\n", True)
    assert asked(tokenizer, thinking=False) == (CLOSED, False)


def test_reasoning_that_the_answer_opens_is_opened_and_closed_for_it(model: Model) -> None:
    tokenizer = model(TURNS + MARKED + ASKS, MARKERS)
    assert asked(tokenizer) == ("", False)
    assert asked(tokenizer, thinking=False) == (CLOSED, False)


def test_an_answer_that_was_begun_is_not_interrupted(model: Model) -> None:
    tokenizer = model(TURNS + MARKED + ASKS, MARKERS)
    messages = (ChatMessage("user", "Hi"), ChatMessage("assistant", "I am"))
    rendered = ChatTemplate(tokenizer).render(ChatPrompt(messages, thinking=False))
    assert tokenizer.decode(rendered.tokens).endswith("<|assistant|>I am")


@pytest.mark.parametrize("said", ["What does <think> do?", "<think>", "a </think> b <think> c"])
@pytest.mark.parametrize("ends", [ASKS, SWITCHED], ids=["no switch", "switch"])
def test_a_marker_that_somebody_talks_about_opens_no_reasoning(model: Model, said: str, ends: str) -> None:
    template = ChatTemplate(model(TURNS + MARKED + ends, MARKERS))
    for messages in (
        (ChatMessage("user", said),),
        (ChatMessage("system", said), ChatMessage("user", "Hi")),
        (ChatMessage("user", said), ChatMessage("assistant", "I am")),
    ):
        assert not template.render(ChatPrompt(messages)).reasoning


def test_reasoning_is_opened_whatever_was_said_before_it(model: Model) -> None:
    template = ChatTemplate(model(TURNS + THINKS, MARKERS))
    for said in ("think", "<think>", "</think>", "\n", ">"):
        assert template.render(ChatPrompt((ChatMessage("user", said),))).reasoning
    begun = (ChatMessage("user", "What does </think> do?"), ChatMessage("assistant", "<think>Well"))
    assert template.render(ChatPrompt(begun)).reasoning


def test_what_is_said_of_markers_does_not_close_reasoning_that_was_not_opened(model: Model) -> None:
    tokenizer = model(TURNS + MARKED + SWITCHED, MARKERS)
    prompt = ChatPrompt((ChatMessage("user", "What does <think> do?"),), thinking=False)
    text = tokenizer.decode(ChatTemplate(tokenizer).render(prompt).tokens)
    assert text.count("</think>") == 1


@pytest.mark.parametrize("added", [(), MARKERS], ids=["no markers", "markers that it does not use"])
@pytest.mark.parametrize("thinking", [True, False])
def test_a_model_that_does_not_reason_is_left_alone(
    model: Model, added: Sequence[str], thinking: bool
) -> None:
    assert asked(model(TURNS + ASKS, added), thinking=thinking, effort=None) == ("", False)


EFFORTS = "effort {{ reasoning_effort | default('medium') }}"


@pytest.mark.parametrize(
    ("source", "wish", "given"),
    [
        ("{{ enable_thinking }}", Wish(True), {"enable_thinking": True}),
        ("{{ enable_thinking }}", Wish(effort="low"), {"enable_thinking": True}),
        ("{{ enable_thinking }}", Wish(), {}),
        ("{% if not thinking %}{% set thinking = false %}{% endif %}", Wish(True), {"thinking": True}),
        ("{% set thinking = 1 %}{{ thinking }}", Wish(True), {}),
        (EFFORTS, Wish(effort="high"), {"reasoning_effort": "high"}),
        (EFFORTS, Wish(True, "high", 5), {"reasoning_effort": "high"}),
        (EFFORTS, Wish(False, "high"), {"reasoning_effort": "low"}),
        (EFFORTS + "{{ 'none' }}", Wish(False), {"reasoning_effort": "none"}),
        (EFFORTS + "{{ enable_thinking }}", Wish(effort="none"), {"enable_thinking": False}),
        ("{{ thinking_budget }}", Wish(tokens=512), {"thinking_budget": 512}),
        ("{{ thinking_budget }}", Wish(False, tokens=512), {"thinking_budget": 0}),
        ("{% generation %}{{ thinking }}{% endgeneration %}", Wish(True), {"thinking": True}),
        ("{% if %}", Wish(True), {}),
    ],
)
def test_a_template_is_given_what_it_has_a_variable_for(
    source: str, wish: Wish, given: dict[str, object]
) -> None:
    assert options(wish, template_of(source)) == given


def test_a_template_that_is_a_function_is_known_by_what_it_names() -> None:
    from mlx_lm.chat_templates import deepseek_v32

    assert options(Wish(False), template_of_function(deepseek_v32.apply_chat_template)) == {
        "enable_thinking": False
    }


def test_of_no_template_nothing_is_known() -> None:
    assert options(Wish(True, "high", 5), Template()) == {}


# -- what prompts share ----------------------------------------------------------------------------

TOOL = json.dumps({"type": "function", "function": {"name": "f", "parameters": {}}})


def chat(*contents: str, system: str | None = "Be brief.", tools: tuple[str, ...] = ()) -> ChatPrompt:
    """Turns of user and assistant."""
    roles = ("user", "assistant") * len(contents)
    turns = tuple(ChatMessage(role, content) for role, content in zip(roles, contents, strict=False))
    head = () if system is None else (ChatMessage("system", system),)
    return ChatPrompt(head + turns, tools)


def shared(one: Rendered, other: Rendered) -> int:
    """How many tokens both begin with."""
    pairs = zip(one.tokens, other.tokens, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


@pytest.mark.parametrize("tools", [(), (TOOL,)])
def test_the_first_mark_is_where_chats_of_a_system_prompt_part(
    guide: Tokenizer, tools: tuple[str, ...]
) -> None:
    template = ChatTemplate(guide)
    one, other = (template.render(chat(text, tools=tools)) for text in ("Hi there", "What is a link?"))
    assert one.marks[0] == other.marks[0] == shared(one, other)


def test_the_second_mark_is_where_the_next_turn_goes_on(guide: Tokenizer) -> None:
    template = ChatTemplate(guide)
    turn = template.render(chat("Hi", "Hello.", "And?"))
    after = template.render(chat("Hi", "Hello.", "And?", "Well.", "So?"))
    assert turn.marks[1] <= shared(turn, after)
    assert guide.decode(turn.tokens[turn.marks[1] :]) == "<|assistant|>"
    assert turn.marks == tuple(sorted(turn.marks))


def test_a_mark_is_never_the_beginning_or_the_end(guide: Tokenizer) -> None:
    for prompt in (chat("Hi"), chat("x"), chat("7", "x", "7"), chat("", tools=(TOOL,))):
        rendered = ChatTemplate(guide).render(prompt)
        assert all(0 < mark < len(rendered.tokens) for mark in rendered.marks)


def test_a_chat_without_a_system_prompt_and_one_that_goes_on_have_no_marks(guide: Tokenizer) -> None:
    template = ChatTemplate(guide)
    assert template.render(chat("Hi", system=None)).marks == ()
    assert template.render(chat("Hi", "I am")).marks == ()


def test_a_template_that_writes_the_time_has_its_marks_where_they_are_now(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = ChatTemplate(tokenizer := model("{{ now }}" + TURNS + ASKS, ()))
    compose = tokenizer.compose
    for now in ("one", "seventeen"):
        monkeypatch.setattr(
            tokenizer,
            "compose",
            lambda messages, tools, options, ending, now=now: compose(
                messages, tools, {**options, "now": now}, ending
            ),
        )
        rendered = template.render(chat("Hi"))
        start = tokenizer.decode(rendered.tokens[: rendered.marks[0]])
        assert start == f"{now}<|system|>Be brief.<|end|><|user|>"


def test_a_template_that_refuses_a_lone_question_has_no_marks(model: Model) -> None:
    refuses = "{% if messages | length < 3 %}{{ raise_exception('too short') }}{% endif %}"
    rendered = ChatTemplate(model(refuses + TURNS + ASKS, ())).render(chat("Hi", "Hello.", "And?"))
    assert rendered.marks == ()


# -- gaps ------------------------------------------------------------------------------------------


def test_a_gap_is_told_by_the_tokens_that_the_vocabulary_has(model: Model) -> None:
    tokenizer = model(TURNS, FIM)
    tokens = infill(InfillPrompt("def f():\n", "\nprint(f())"), tokenizer)
    assert tokenizer.decode(tokens) == "<|fim_prefix|>def f():\n<|fim_suffix|>\nprint(f())<|fim_middle|>"


def test_a_model_that_was_trained_to_see_the_suffix_first_gets_it_first(model: Model) -> None:
    tokenizer = model(TURNS, ("[PREFIX]", "[SUFFIX]"))
    assert tokenizer.decode(infill(InfillPrompt("a", "b"), tokenizer)) == "[SUFFIX]b[PREFIX]a"


def test_a_vocabulary_without_such_tokens_fills_no_gaps(guide: Tokenizer) -> None:
    with pytest.raises(NoInfill, match="leave out the suffix"):
        infill(InfillPrompt("a", "b"), guide)


# -- what else a tokenizer tells -------------------------------------------------------------------


def test_a_tokenizer_tells_its_markers_as_text_and_as_tokens(model: Model) -> None:
    tokenizer = model(TURNS + "<tool_call>{{ tool_call.name }}", MARKERS)
    assert tokenizer.markers == ["<think>", "</think>", "<tool_call>", "</tool_call>"]
    start, end = (tokenizer.token(text) for text in MARKERS)
    assert tokenizer.thinking == Thinking((start or 0,), (end or 0,))
    assert tokenizer.call_markers == CallMarkers("json_tools", "<tool_call>", "</tool_call>")
    assert tokenizer.special >= {start, end}
    assert tokenizer.token("<|nowhere|>") is None


def test_a_tokenizers_calls_are_read_while_they_arrive(guide: Tokenizer) -> None:
    form = guide.tool_format([TOOL])
    assert form is not None
    assert form.reader().feed('{"name": "f", "arguments": {') == [Begun("f"), More("{")]
