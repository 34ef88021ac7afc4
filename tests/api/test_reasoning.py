"""However a client asks for reasoning, or for none, or for a little, it is one wish."""

import json

import pytest

from api.orders import chat_order
from api.reasoning import ReasoningWish, reasoning_wish, shows_reasoning
from api.schema import ChatBody, decode
from bus.messages.base import RequestId
from bus.messages.generation import ChatPrompt


def body(**fields: object) -> ChatBody:
    whole = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]} | fields
    return decode(json.dumps(whole).encode(), ChatBody)


@pytest.mark.parametrize(
    ("fields", "wish"),
    [
        ({}, ReasoningWish()),
        ({"reasoning_effort": "none"}, ReasoningWish(False)),
        ({"reasoning_effort": "xhigh"}, ReasoningWish(True, "xhigh")),
        ({"reasoning": {"effort": "low", "max_tokens": 64}}, ReasoningWish(True, "low", 64)),
        ({"reasoning": {"max_tokens": 64}}, ReasoningWish(True, None, 64)),
        ({"reasoning": {"enabled": True}}, ReasoningWish(True)),
        ({"reasoning": {"enabled": False, "effort": "high"}}, ReasoningWish(False, "high")),
        ({"enable_thinking": True}, ReasoningWish(True)),
        ({"enable_thinking": False, "reasoning_effort": "high"}, ReasoningWish(False, "high")),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, ReasoningWish(True, None, 1024)),
        ({"thinking": {"type": "disabled"}}, ReasoningWish(False)),
        ({"thinking": {"type": "adaptive"}}, ReasoningWish()),
        ({"thinking_budget": 5}, ReasoningWish(None, None, 5)),
        ({"reasoning_budget": -1}, ReasoningWish()),
        ({"reasoning_budget": 0}, ReasoningWish(False, None, 0)),
        ({"chat_template_kwargs": {"enable_thinking": False}, "enable_thinking": True}, ReasoningWish(False)),
    ],
)
def test_each_way_to_say_it(fields: dict[str, object], wish: ReasoningWish) -> None:
    assert reasoning_wish(body(**fields)) == wish


def test_the_wish_reaches_the_prompt_and_the_limits() -> None:
    order = chat_order(body(reasoning_effort="low", thinking_budget=9), RequestId("r"))
    (prompt,) = order.prompts
    assert isinstance(prompt, ChatPrompt)
    assert (prompt.thinking, prompt.effort, prompt.template_options) == (True, "low", "{}")
    assert order.stopping.reasoning_tokens == 9


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({}, True),
        ({"include_reasoning": True, "reasoning": {}}, True),
        ({"include_reasoning": False}, False),
        ({"reasoning": {"exclude": True}}, False),
    ],
)
def test_reasoning_is_shown_unless_the_client_wants_to_be_spared(
    fields: dict[str, object], shown: bool
) -> None:
    assert shows_reasoning(body(**fields)) == shown
