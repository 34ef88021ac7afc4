"""Whether, how much and how visibly a model is to reason: the fields of half a dozen clients become one wish.

Of several that contradict each other the more special one counts: first what is meant for the template itself
(`chat_template_kwargs`), then `enable_thinking`, `thinking`, `reasoning` and at last `reasoning_effort`.
"""

from dataclasses import dataclass
from typing import TypeVar

from api.errors import invalid
from api.schema import ChatBody, ReasoningBody, ThinkingBody

T = TypeVar("T")

_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


@dataclass(frozen=True)
class ReasoningWish:
    """What a chat body wants of the model's reasoning."""

    thinking: bool | None = None
    """As in ChatPrompt."""
    effort: str | None = None
    """As in ChatPrompt."""
    tokens: int | None = None
    """As in Stopping: the most that may be spent on it."""


def reasoning_wish(body: ChatBody) -> ReasoningWish:
    """The wish of a chat body. Raises ApiError 400."""
    reasoning = body.reasoning or ReasoningBody()
    thinking = body.thinking or ThinkingBody("adaptive")
    efforts = (
        _effort(reasoning.effort, "reasoning.effort"),
        _effort(body.reasoning_effort, "reasoning_effort"),
    )
    effort = _first(*efforts)
    budget = _first(body.thinking_budget, body.reasoning_budget, thinking.budget_tokens, reasoning.max_tokens)
    own = (body.chat_template_kwargs or {}).get("enable_thinking")
    wanted = _first(
        own if isinstance(own, bool) else None,
        body.enable_thinking,
        _switch(thinking),
        reasoning.enabled,
        False if budget == 0 else None,
        True if reasoning.max_tokens else None,
        None if effort is None else effort != "none",
    )
    return ReasoningWish(
        thinking=wanted,
        effort=None if effort == "none" else effort,
        tokens=None if budget == -1 else budget,
    )


def shows_reasoning(body: ChatBody) -> bool:
    """Whether the client gets to see the reasoning, if there is any."""
    return body.include_reasoning is not False and not (body.reasoning and body.reasoning.exclude)


def _effort(effort: str | None, param: str) -> str | None:
    if effort is not None and effort not in _EFFORTS:
        raise invalid(f"Use one of {', '.join(_EFFORTS)}.", param)
    return effort


def _switch(thinking: ThinkingBody) -> bool | None:
    match thinking.type:
        case "enabled":
            return True
        case "disabled":
            return False
        case "adaptive":
            return None


def _first(*values: T | None) -> T | None:
    """The first that says something."""
    return next((value for value in values if value is not None), None)
