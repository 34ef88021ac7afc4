"""From a conversation to tokens, with the model's own chat template."""

import json
from typing import Final, Protocol

from bus.messages.generation import ChatMessage, ChatPrompt

RESERVED: Final = frozenset(
    {
        "messages",
        "conversation",
        "tools",
        "tokenize",
        "chat_template",
        "add_generation_prompt",
        "continue_final_message",
        "return_dict",
        "return_tensors",
    }
)
"""What a request may not set through `chat_template_kwargs`: it says it in fields of its own."""


class TemplateError(ValueError):
    """The conversation can't be rendered; the message says why, for who sent it."""

    def __init__(self, message: str, param: str = "messages") -> None:
        super().__init__(message)
        self.param = param


class Renderer(Protocol):
    """The part of a tokenizer that knows its chat template."""

    @property
    def has_template(self) -> bool: ...

    def render(
        self,
        messages: list[dict[str, object]],
        tools: list[object] | None,
        options: dict[str, object],
        continues: bool,
    ) -> list[int]: ...


def render(prompt: ChatPrompt, renderer: Renderer) -> list[int]:
    """The conversation's tokens, up to where the answer begins. Raises TemplateError."""
    if not renderer.has_template:
        raise TemplateError(
            "This model has no chat template: use /v1/completions, or a model that was made for chat."
        )
    tools: list[object] = [_object(tool, "tools") for tool in prompt.tools]
    options = _options(prompt.template_options)
    going_on = continues(prompt)
    messages = [_as_template_wants(message) for message in prompt.messages]
    if not messages:
        raise TemplateError("There is no message to answer.")
    if _is_empty_answer(prompt.messages[-1]):
        messages.pop()
    try:
        return renderer.render(messages, tools or None, options, going_on)
    except Exception as error:  # a template is a program that came with the model
        raise TemplateError(f"The model's chat template does not take this conversation: {error}") from error


def continues(prompt: ChatPrompt) -> bool:
    """Whether the answer goes on in the last message, which is the assistant's own."""
    if not prompt.messages:
        return False
    last = prompt.messages[-1]
    return last.role == "assistant" and bool(last.content) and not last.tool_calls


def _is_empty_answer(message: ChatMessage) -> bool:
    """An answer to be continued that has not begun: the same as none."""
    return message.role == "assistant" and not message.content and not message.tool_calls


def _as_template_wants(message: ChatMessage) -> dict[str, object]:
    """Hugging Face's form of a message, which templates are written for."""
    wanted: dict[str, object] = {
        "role": "system" if message.role == "developer" else message.role,
        "content": message.content or "",
    }
    if message.reasoning is not None:
        wanted["reasoning_content"] = message.reasoning
    if message.name is not None:
        wanted["name"] = message.name
    if message.tool_call_id is not None:
        wanted["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        wanted["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": _object(call.arguments or "{}", "messages")},
            }
            for call in message.tool_calls
        ]
    return wanted


def _options(text: str) -> dict[str, object]:
    options = _object(text, "chat_template_kwargs")
    if taken := RESERVED & options.keys():
        raise TemplateError(
            f"{', '.join(sorted(taken))} can't be set through chat_template_kwargs.", "chat_template_kwargs"
        )
    return options


def _object(text: str, param: str) -> dict[str, object]:
    try:
        value: object = json.loads(text)
    except ValueError as error:
        raise TemplateError(f"{param} holds text that is no JSON: {error}", param) from error
    if not isinstance(value, dict):
        raise TemplateError(f"{param} holds JSON that is no object.", param)
    return value
