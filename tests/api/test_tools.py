"""Tools are offered, chosen and forced as the body says; what can't be is named."""

import json

import pytest

from api.errors import ApiError
from api.orders import chat_order
from api.schema import ChatBody, decode
from api.tools import Offer, offer_of
from bus.messages.base import RequestId
from bus.messages.generation import CallFormat, JsonFormat


def tool(name: str) -> dict[str, object]:
    return {"type": "function", "function": {"name": name, "strict": True}}


def text(name: str) -> str:
    return json.dumps(tool(name))


TOOLS = [tool("f"), tool("g"), tool("h")]
ALL = (text("f"), text("g"), text("h"))


def body(**fields: object) -> ChatBody:
    whole = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "tools": TOOLS} | fields
    return decode(json.dumps(whole).encode(), ChatBody)


def named(name: str) -> dict[str, object]:
    return {"type": "function", "function": {"name": name}}


def allowed(mode: str, *names: str) -> dict[str, object]:
    return {
        "type": "allowed_tools",
        "allowed_tools": {"mode": mode, "tools": [named(name) for name in names]},
    }


@pytest.mark.parametrize(
    ("choice", "offer"),
    [
        (None, Offer(ALL)),
        ("auto", Offer(ALL)),
        ("none", Offer()),
        ("required", Offer(ALL, CallFormat())),
        (named("g"), Offer(ALL, CallFormat("g"), 1)),
        (allowed("auto", "h", "f"), Offer((text("f"), text("h")))),
        (allowed("required", "g"), Offer((text("g"),), CallFormat())),
        (allowed("auto"), Offer()),
    ],
)
def test_each_choice_offers_what_it_says(choice: object, offer: Offer) -> None:
    assert offer_of(body(tool_choice=choice)) == offer


def test_one_call_at_a_time_is_a_limit_of_the_answer() -> None:
    order = chat_order(body(parallel_tool_calls=False), RequestId("r"))
    assert (order.stopping.calls, order.format) == (1, None)
    assert chat_order(body(parallel_tool_calls=True), RequestId("r")).stopping.calls is None


def test_a_call_that_is_forced_leaves_no_text_to_be_formatted() -> None:
    json_object = {"response_format": {"type": "json_object"}}
    assert chat_order(body(**json_object), RequestId("r")).format == JsonFormat()
    forced = chat_order(body(tool_choice="required", **json_object), RequestId("r"))
    assert forced.format == CallFormat()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [], "tool_choice": "required"}, "tool_choice"),
        ({"tools": None, "tool_choice": "required"}, "tool_choice"),
        ({"tools": None, "tool_choice": named("f")}, "tool_choice"),
        ({"tool_choice": named("x")}, "tool_choice"),
        ({"tool_choice": named("")}, "tool_choice.function.name"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function"),
        ({"tool_choice": {}}, "tool_choice.type"),
        ({"tool_choice": 5}, "tool_choice"),
        ({"tool_choice": {"type": "custom", "custom": {"name": "f"}}}, "tool_choice.type"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice.allowed_tools"),
        ({"tool_choice": allowed("sometimes", "f")}, "tool_choice.allowed_tools.mode"),
        ({"tool_choice": allowed("required")}, "tool_choice"),
        ({"tool_choice": allowed("auto", "f", "x")}, "tool_choice.allowed_tools.tools[1]"),
        (
            {
                "tools": [
                    {"type": "custom", "custom": {"name": "x", "format": {"type": "grammar", "grammar": {}}}}
                ]
            },
            "tools[0].type",
        ),
    ],
)
def test_what_can_not_be_called_is_a_400_that_names_the_field(fields: dict[str, object], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        offer_of(body(**fields))
    assert (caught.value.fault.status, caught.value.fault.param) == (400, param)
