"""The questions that the guide answers, from the files in `topics/` and `paraphrases/`."""

import random
import tomllib
from dataclasses import dataclass
from pathlib import Path

from scripts.guide.conversation import Conversation, Turn, answer, user
from scripts.guide.wording import choose, finish, link, vary

FOLDER = Path(__file__).parent / "topics"
PARAPHRASES = Path(__file__).parent / "paraphrases"


@dataclass(frozen=True, slots=True)
class Topic:
    """One thing that people ask, and its answer."""

    name: str
    fact: tuple[str, ...]
    """What every right answer contains."""
    say: str
    ask: tuple[str, ...]
    """Templates of questions, to be trained on."""
    paraphrases: tuple[str, ...]
    """Questions as different people would put them, to be trained on."""
    words: tuple[str, ...]
    """What it is about, in a few words each."""
    held_out: tuple[str, ...]
    """Questions in other words, never trained on: they measure."""


def read_topics(folder: Path = FOLDER, paraphrases: Path = PARAPHRASES) -> tuple[Topic, ...]:
    """All topics. Raises ValueError where an answer does not contain its own facts."""
    topics: list[Topic] = []
    for path in sorted(folder.glob("*.toml")):
        more = paraphrases / path.name
        asked = tomllib.loads(more.read_text(encoding="utf-8")) if more.exists() else {}
        entries = tomllib.loads(path.read_text(encoding="utf-8"))["topic"]
        topics += [_topic(entry, asked.get(entry["name"], {}).get("ask", entry["ask"])) for entry in entries]
    return tuple(topics)


def _topic(entry: dict[str, str | list[str]], paraphrases: list[str]) -> Topic:
    topic = Topic(
        name=str(entry["name"]),
        fact=tuple(entry["fact"]),
        say=str(entry["say"]),
        ask=tuple(entry["ask"]),
        paraphrases=tuple(paraphrases),
        words=tuple(str(entry["words"]).split("|")),
        held_out=tuple(entry["held_out"]),
    )
    if not all(fact.lower() in topic.say.lower() for fact in topic.fact):
        raise ValueError(f"topic {topic.name!r}: the answer lacks a fact")
    return topic


def topic_turns(topics: tuple[Topic, ...], count: int, rng: random.Random) -> tuple[Turn, ...]:
    """`count` questions about different topics, each with its answer."""
    turns: list[Turn] = []
    for number, topic in enumerate(rng.sample(topics, count)):
        asked = choose(_template(topic, rng), rng)
        turns += (user(vary(link(asked, rng) if number else asked, rng)), answer(topic.say))
    return tuple(turns)


PARAPHRASED, TEMPLATED = 0.45, 0.85
"""Which share of the questions is a paraphrase, and which a paraphrase or made by a template."""

FRAMES = (
    "{}",
    "[what about|how about|tell me about|tell me more about|I want to know about|explain|something on] {}",
    "[what is|how is|where is|what are|is there|are there|which is|can I have|do you have|about] {}",
    "{}, [how|how does that work|what do I do|how do I do that|what is that|please|is that possible]",
    "[can it be|is it|can they be|how is it|when is it|how does it get] {}",
    "[question about|I need|help with|problem with|I ask about|my question is about] {}",
)


def _template(topic: Topic, rng: random.Random) -> str:
    """A paraphrase, a template of the topic's own or, now and then, its words in a frame that fits any."""
    kind = rng.random()
    if kind < PARAPHRASED:
        return rng.choice(topic.paraphrases)
    if kind < TEMPLATED:
        return rng.choice(topic.ask)
    about = " ".join(rng.sample(topic.words, 2)) if rng.random() < 0.2 else rng.choice(topic.words)
    return rng.choice(FRAMES).format(about)


def trained_topic(topics: tuple[Topic, ...], rng: random.Random) -> Conversation:
    """One to three questions with their answers."""
    return Conversation("topic", topic_turns(topics, rng.choices((1, 2, 3), (75, 17, 8))[0], rng))


def held_out_topics(topics: tuple[Topic, ...], rng: random.Random) -> list[Conversation]:
    """Every held-out question, each typed in one of the usual ways; every fourth as a second question."""
    asked: list[Conversation] = []
    for topic in topics:
        for question in topic.held_out:
            others = tuple(other for other in topics if other is not topic)
            before = topic_turns(others, 1, rng) if len(asked) % 4 == 3 else ()
            turns = (*before, user(finish(question, rng)), answer(topic.say))
            asked.append(Conversation(f"topic: {topic.name}", turns, facts=topic.fact))
    return asked
