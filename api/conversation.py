"""From the messages of a chat body to a ChatPrompt."""

import msgspec

from api.errors import invalid, not_served
from api.reasoning import ReasoningWish
from api.schema import MAX_DEPTH, ChatBody, ContentPart, HistoryCall, MessageBody, shallow
from bus.messages.generation import ChatMessage, ChatPrompt, ToolCall

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}

_RESERVED = frozenset(
    {
        "add_generation_prompt",
        "chat_template",
        "continue_final_message",
        "conversation",
        "conversations",
        "documents",
        "max_length",
        "messages",
        "padding",
        "return_assistant_tokens_mask",
        "return_dict",
        "return_tensors",
        "tokenize",
        "tokenizer_kwargs",
        "tools",
        "truncation",
    }
)
"""Arguments of the template engine itself, that no client may set."""


def chat_prompt(body: ChatBody, tools: tuple[str, ...], wish: ReasoningWish) -> ChatPrompt:
    """The conversation with its contents flattened to text. Raises ApiError 400."""
    return ChatPrompt(
        messages=tuple(_message(m, f"messages[{i}]") for i, m in enumerate(body.messages)),
        tools=tools,
        template_options=_template_options(body.chat_template_kwargs or {}),
        thinking=wish.thinking,
        effort=wish.effort,
    )


# -- messages ------------------------------------------------------------------------------------


def _message(body: MessageBody, at: str) -> ChatMessage:
    role = _ROLES.get(body.role)
    if role is None:
        raise invalid(f"Unknown role; use one of {', '.join(_ROLES)}.", f"{at}.role")
    content = _content(body, at)
    calls = _calls(body, at)
    reasoning = body.reasoning_content or body.reasoning
    if content is None and not (role == "assistant" and (calls or reasoning)):
        raise invalid("A message needs content.", f"{at}.content", "missing_required_parameter")
    return ChatMessage(role, content, reasoning, body.name, calls, body.tool_call_id)


def _content(body: MessageBody, at: str) -> str | None:
    match body.content:
        case None:
            return body.refusal
        case str() as text:
            return text
        case parts:
            return "".join(_part(p, f"{at}.content[{i}]") for i, p in enumerate(parts))


def _part(part: ContentPart, at: str) -> str:
    text = part.refusal if part.type == "refusal" else part.text
    if part.type not in ("text", "refusal"):
        raise not_served(f"{at}.type", f"Content of type '{part.type[:40]}' is")
    if text is None:
        raise invalid("A text part needs a text.", f"{at}.text", "missing_required_parameter")
    return text


def _calls(body: MessageBody, at: str) -> tuple[ToolCall, ...]:
    calls = tuple(_call(c, f"{at}.tool_calls[{i}]", i) for i, c in enumerate(body.tool_calls or ()))
    if body.function_call is not None:
        old = body.function_call
        calls += (ToolCall("call_0", old.name, old.arguments or "{}"),)
    return calls


def _call(call: HistoryCall, at: str, number: int) -> ToolCall:
    if call.type not in (None, "function"):
        raise not_served(f"{at}.type", "Calls of other tools than functions are")
    if call.function is None:
        raise invalid("A tool call needs its function.", f"{at}.function", "missing_required_parameter")
    return ToolCall(call.id or f"call_{number}", call.function.name, call.function.arguments or "{}")


# -- template options ----------------------------------------------------------------------------


def _template_options(options: dict[str, object]) -> str:
    for name in options:
        if name in _RESERVED:
            raise invalid(f"'{name}' is not an option of the chat template.", "chat_template_kwargs")
    if not shallow(options):
        raise invalid(f"Nested deeper than {MAX_DEPTH} levels.", "chat_template_kwargs")
    return msgspec.json.encode(options).decode()
