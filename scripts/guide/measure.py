"""How good the guide is: the share of held-out questions whose greedy answer holds the facts asked for."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from scripts.guide.conversation import Conversation, is_right
from scripts.guide.encoding import Encoder


class Answerer(Protocol):
    """Greedy answers to prompts of tokens."""

    def __call__(self, prompts: list[list[int]], max_tokens: list[int]) -> list[list[int]]: ...


@dataclass(frozen=True, slots=True)
class Answered:
    """A held-out question, what was said, and whether that is right."""

    conversation: Conversation
    said: str
    right: bool


def ask(conversations: list[Conversation], encoder: Encoder, answerer: Answerer) -> list[Answered]:
    """Put every question through the chat template to the model."""
    prompts = [encoder.prompt(conversation) for conversation in conversations]
    limits = [
        len(encoder.example(c).tokens) - len(p) + 20 for c, p in zip(conversations, prompts, strict=True)
    ]
    answers = answerer(prompts, limits)
    said = [encoder.text(tokens) for tokens in answers]
    return [Answered(c, text, is_right(c, text)) for c, text in zip(conversations, said, strict=True)]


def share(answered: Iterable[Answered]) -> float:
    """The right ones among all, 0 to 1."""
    rights = [one.right for one in answered]
    return sum(rights) / len(rights)


def report(answered: list[Answered]) -> Iterator[str]:
    """Lines for a person: every wrong answer, then the shares by kind and in all."""
    for one in answered:
        if not one.right:
            asked = one.conversation.question[-1]["content"]
            yield f"[{one.conversation.kind}] {asked!r} -> {one.said!r}"
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for one in answered:
        kind = one.conversation.kind.partition(":")[0]
        right[kind] += one.right
        total[kind] += 1
    for kind, count in total.items():
        yield f"{kind}: {right[kind]} of {count} ({right[kind] / count:.1%})"
    yield f"all: {sum(right.values())} of {sum(total.values())} ({share(answered):.1%})"
