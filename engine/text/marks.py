"""Where a chat's prompt will most likely part from those of other chats, and of its own next turn."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Protocol

logger = logging.getLogger(__name__)

REMEMBERED: Final = 32
"""System prompts, with their tools, whose text is kept."""

QUESTIONS: Final = ("x", "7")
"""Two first messages that have nothing in common."""


class Spelled(Protocol):
    """A text's tokens."""

    @property
    def tokens(self) -> list[int]: ...

    def token_at(self, character: int) -> int | None:
        """The place of the token that this character is in; None where that can't be told."""


Compose = Callable[[str, bool], str]
"""A chat of one question after the same system prompt and tools; with what asks for an answer, or not."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around every chat of a system prompt and its tools."""

    head: str = ""
    """Before the first question."""
    ask: str = ""
    """After the last message: it asks for the answer."""


class Marks:
    """Finds those places in the text, so that nothing is made into tokens twice."""

    def __init__(self) -> None:
        self._frames: OrderedDict[Hashable, Frame] = OrderedDict()

    def of(self, text: str, spelled: Spelled, key: Hashable, compose: Compose) -> tuple[int, ...]:
        """Places in a prompt's tokens, ascending, each after its first token and before its end.

        `text` is all of the prompt; chats with the same `key` have the same system prompt, tools and options.
        """
        frame = self._frame(key, compose)
        if not text.startswith(frame.head):
            # A template may write the date.
            self._frames.pop(key, None)
            frame = self._frame(key, compose)
        places = []
        if frame.head and text.startswith(frame.head):
            places.append(len(frame.head))
        if frame.ask and text.endswith(frame.ask):
            places.append(len(text) - len(frame.ask))
        found = {spelled.token_at(place) for place in places if 0 < place < len(text)}
        return tuple(sorted(at for at in found if at and at < len(spelled.tokens)))

    def _frame(self, key: Hashable, compose: Compose) -> Frame:
        frame = self._frames.pop(key, None) or _framed(compose)
        self._frames[key] = frame
        if len(self._frames) > REMEMBERED:
            self._frames.popitem(last=False)
        return frame


def _framed(compose: Compose) -> Frame:
    try:
        one, other = (compose(question, True) for question in QUESTIONS)
        bare = compose(QUESTIONS[0], False)
    except Exception as error:  # a template is a program that came with the model
        logger.info("a chat of one question can't be rendered (%s): its parts are not kept apart", error)
        return Frame()
    return Frame(_shared(one, other), one[len(bare) :] if one.startswith(bare) else "")


def _shared(one: str, other: str) -> str:
    """What both begin with."""
    least, most = 0, min(len(one), len(other))
    while least < most:
        middle = (least + most + 1) // 2
        least, most = (middle, most) if one[:middle] == other[:middle] else (least, middle - 1)
    return one[:least]
