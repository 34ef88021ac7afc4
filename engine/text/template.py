"""From a conversation to tokens, with the model's own chat template."""

import json
import logging
from dataclasses import dataclass
from enum import Enum, auto
from itertools import takewhile
from typing import Final, Protocol

from bus.messages.generation import ChatMessage, ChatPrompt, ToolCall
from bus.volatile import steady
from engine.text.marks import Marks, Spelled
from engine.text.thinking import VARIABLES, Template, Wish, can_switch_off, closed, is_inside
from engine.text.thinking import options as switches

logger = logging.getLogger(__name__)

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


class Ending(Enum):
    """How a conversation's text ends."""

    ASKS = auto()
    """With what asks for an answer."""
    OPEN = auto()
    """In the last message, which goes on."""
    CLOSED = auto()
    """After the last message."""


class Renderer(Protocol):
    """The part of a tokenizer that knows its chat template."""

    @property
    def has_template(self) -> bool: ...

    @property
    def think_markers(self) -> tuple[str, str] | None:
        """What stands before and after reasoning."""

    def template(self, tools: bool) -> Template:
        """What is known of the chat template; some models have another one where tools are offered."""

    def compose(
        self,
        messages: list[dict[str, object]],
        tools: list[object] | None,
        options: dict[str, object],
        ending: Ending,
    ) -> str:
        """A conversation's text; raises whatever the template raises."""

    def spell(self, text: str) -> Spelled:
        """Its tokens."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as a prompt."""

    tokens: list[int]
    reasoning: bool = False
    """It ends inside the model's reasoning."""
    marks: tuple[int, ...] = ()
    """As in Job."""


class ChatTemplate:
    """Makes prompts of conversations, for one model."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer
        self._marks = Marks()

    def render(self, prompt: ChatPrompt, reasoning_tokens: int | None = None) -> Rendered:
        """The conversation's tokens, up to where the answer begins. Raises TemplateError."""
        if not self._renderer.has_template:
            raise TemplateError(
                "This model has no chat template: use /v1/completions, or a model that was made for chat."
            )
        tools: list[object] = [_object(tool, "tools") for tool in prompt.tools]
        wish = Wish(prompt.thinking, prompt.effort, reasoning_tokens)
        template = self._renderer.template(bool(tools))
        own = _options(prompt.template_options)
        chat = _Chat(
            messages=_messages(steady(prompt.messages)),
            tools=tools,
            options={**switches(wish, template), **own},
            continues=continues(prompt),
        )
        text = self._compose(chat)
        markers, whole = self._renderer.think_markers, text
        reasoning = markers is not None and self._opens_reasoning(chat, text, markers)
        if markers and wish.settled is False and not (chat.continues or own.keys() & VARIABLES):
            whole = closed(text, markers, reasoning, template, can_switch_off(chat.options))
            reasoning = False
        spelled = self._renderer.spell(whole)
        return Rendered(spelled.tokens, reasoning, self._marks_of(chat, text, spelled))

    def _compose(self, chat: "_Chat") -> str:
        ending = Ending.OPEN if chat.continues else Ending.ASKS
        try:
            return self._renderer.compose(chat.messages, chat.tools or None, chat.options, ending)
        except Exception as error:  # a template is a program that came with the model
            raise TemplateError(
                f"The model's chat template does not take this conversation: {error}"
            ) from error

    def _opens_reasoning(self, chat: "_Chat", text: str, markers: tuple[str, str]) -> bool:
        """Whether a chat's text ends inside the model's reasoning. Where somebody talks about its markers,
        only what comes after the last question counts."""
        if not is_inside(text, markers):
            return False
        said = [*(message["content"] for message in chat.messages), *chat.tools]
        if not any(markers[0] in str(each) for each in said):
            return True
        if chat.continues:
            return is_inside(str(chat.messages[-1]["content"]), markers)
        try:
            bare = self._renderer.compose(chat.messages, chat.tools or None, chat.options, Ending.CLOSED)
        except Exception as error:  # a template is a program that came with the model
            logger.info("a chat can't be rendered without what asks for its answer: %s", error)
            return True
        return is_inside(text.removeprefix(bare), markers)

    def _marks_of(self, chat: "_Chat", text: str, spelled: Spelled) -> tuple[int, ...]:
        system = list(takewhile(lambda message: message["role"] == "system", chat.messages))
        if chat.continues or not (system or chat.tools):
            return ()

        def compose(question: str, asks: bool) -> str:
            messages: list[dict[str, object]] = [*system, {"role": "user", "content": question}]
            ending = Ending.ASKS if asks else Ending.CLOSED
            return self._renderer.compose(messages, chat.tools or None, chat.options, ending)

        return self._marks.of(text, spelled, json.dumps([system, chat.tools, chat.options]), compose)


@dataclass(frozen=True, slots=True)
class _Chat:
    """What a template is given."""

    messages: list[dict[str, object]]
    tools: list[object]
    options: dict[str, object]
    continues: bool


def continues(prompt: ChatPrompt) -> bool:
    """Whether the answer goes on in the last message, which is the assistant's own."""
    if not prompt.messages:
        return False
    last = prompt.messages[-1]
    return last.role == "assistant" and bool(last.content) and not last.tool_calls


def _is_empty_answer(message: ChatMessage) -> bool:
    """An answer to be continued that has not begun: the same as none."""
    return message.role == "assistant" and not message.content and not message.tool_calls


def _messages(sent: tuple[ChatMessage, ...]) -> list[dict[str, object]]:
    messages = [_as_template_wants(message) for message in sent]
    if sent and _is_empty_answer(sent[-1]):
        messages.pop()
    if not messages:
        raise TemplateError("There is no message to answer.")
    return messages


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
                "function": {"name": call.name, "arguments": _arguments(call)},
            }
            for call in message.tool_calls
        ]
    return wanted


def _arguments(call: ToolCall) -> dict[str, object]:
    """A call that broke off comes back with the history; templates want an object, so it is wrapped in one,
    the way Anthropic tells clients to send such calls back (their page on fine-grained tool streaming)."""
    try:
        return _object(call.arguments or "{}", "messages")
    except TemplateError:
        return {"INVALID_JSON": call.arguments}


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
