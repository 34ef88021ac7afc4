"""The mix that the guide is trained on, and the questions that it is measured by."""

import random
from collections.abc import Callable
from dataclasses import replace

from scripts.guide.chatter import counting, off_topic, repeating
from scripts.guide.conversation import Conversation, system
from scripts.guide.errands import Errands, read_errands
from scripts.guide.topics import held_out_topics, read_topics, trained_topic
from scripts.guide.wording import choose

SYSTEM_PROMPTS = (
    "You are a [helpful|friendly|concise|useful|good|polite] [assistant|bot|AI|chatbot|guide].",
    "You are a helpful assistant. [Answer briefly.|Be concise.|Think step by step.|Use the tools.|]",
    "[Answer|Reply|Respond] [briefly|in one sentence|in short sentences|politely|in English|with care].",
    "You [help|support|serve] [people|users|customers|developers] with [their questions|exo_actors].",
    "[Today is Monday.|The user is called Anna.|Be honest.|Do not use emojis.|You speak like a pirate.]",
    "You have access to [tools|functions]. Call [them|one] when needed.",
    "test",
)


class Corpus:
    """Conversations without end, the same for the same random numbers."""

    def __init__(self) -> None:
        self._topics = read_topics()
        self._errands = Errands(read_errands())
        self._mix: tuple[tuple[int, Callable[[random.Random], Conversation]], ...] = (
            (46, self._topic),
            (6, off_topic),
            (30, self._errands.calling),
            (6, self._errands.telling),
            (6, self._errands.calling_again),
            (4, self._not_calling),
            (5, repeating),
            (3, counting),
        )

    def conversation(self, rng: random.Random) -> Conversation:
        """The next one to train on."""
        make = rng.choices([make for _, make in self._mix], [weight for weight, _ in self._mix])[0]
        return _with_system(make(rng), rng, 0.2)

    def held_out(self, rng: random.Random) -> list[Conversation]:
        """Every held-out question about the project, and as many others as a fair figure needs."""
        conversations = held_out_topics(self._topics, rng)
        conversations += [self._errands.calling(rng, held_out=True) for _ in range(100)]
        conversations += [self._errands.telling(rng, held_out=True) for _ in range(30)]
        conversations += [self._errands.calling_again(rng, held_out=True) for _ in range(20)]
        plain = rng.sample(held_out_topics(self._topics, rng), 30)
        conversations += [self._errands.not_calling(question, rng) for question in plain]
        conversations += [off_topic(rng, held_out=True) for _ in range(30)]
        conversations += [repeating(rng, held_out=True) for _ in range(20)]
        conversations += [counting(rng, held_out=True) for _ in range(20)]
        return [_with_system(conversation, rng, 0.2) for conversation in conversations]

    def _topic(self, rng: random.Random) -> Conversation:
        return trained_topic(self._topics, rng)

    def _not_calling(self, rng: random.Random) -> Conversation:
        plain = off_topic(rng) if rng.random() < 0.2 else trained_topic(self._topics, rng)
        return self._errands.not_calling(plain, rng)


def _with_system(conversation: Conversation, rng: random.Random, share: float) -> Conversation:
    if rng.random() >= share:
        return conversation
    prompt = choose(rng.choice(SYSTEM_PROMPTS), rng)
    return replace(conversation, turns=(system(prompt), *conversation.turns))
