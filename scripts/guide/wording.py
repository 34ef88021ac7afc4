"""Many ways to write one question: alternatives, courtesy, missing words, typing errors."""

import random
import re

ALTERNATIVES = re.compile(r"\[([^\[\]]*)\]")
COURTESY_BEFORE = (
    "please tell me,",
    "can you tell me",
    "could you tell me",
    "hi,",
    "hello,",
    "hey,",
    "quick question:",
    "I wonder",
    "sorry,",
    "tell me,",
    "excuse me,",
    "please",
    "I have a question:",
    "well,",
    "um,",
    "do you know",
)
COURTESY_AFTER = (
    "please",
    "thanks",
    "exactly",
    "here",
    "actually",
    "then",
    "guide",
    "now",
    "in this project",
)
LINKS = (
    "and",
    "ok,",
    "thanks,",
    "great,",
    "and then",
    "also,",
    "one more thing:",
    "ok, and",
    "thank you.",
    "but",
)
SMALL_WORDS = frozenset(
    [
        "a",
        "an",
        "the",
        "is",
        "are",
        "do",
        "does",
        "can",
        "i",
        "to",
        "of",
        "it",
        "on",
        "in",
        "for",
        "my",
        "me",
        "you",
        "what",
        "how",
        "there",
        "that",
        "this",
        "with",
    ]
)
NEAR = "qwertyuiop asdfghjkl zxcvbnm"


def choose(template: str, rng: random.Random) -> str:
    """Take one of each `[a|b]`."""
    text = ALTERNATIVES.sub(lambda match: rng.choice(match[1].split("|")), template)
    return " ".join(text.split())


def vary(text: str, rng: random.Random) -> str:
    """The same question as somebody else would type it."""
    if rng.random() < 0.12:
        text = f"{rng.choice(COURTESY_BEFORE)} {text}"
    if rng.random() < 0.1:
        text = f"{text} {rng.choice(COURTESY_AFTER)}"
    chance = rng.random()
    if chance < 0.15:
        text = _drop_small_words(text, rng)
    elif chance < 0.25:
        text = _drop_any_words(text, rng)
    if rng.random() < 0.15:
        text = _mistype(text, rng)
    return finish(text, rng)


def finish(text: str, rng: random.Random) -> str:
    """Capitals and the mark at the end, in one of the usual ways."""
    chance = rng.random()
    if chance < 0.5:
        text = text[:1].upper() + text[1:]
    elif chance < 0.7:
        text = text.lower()
    return text + rng.choices(("?", "", ".", "!", " ?", "??"), (45, 35, 10, 3, 4, 3))[0]


def link(text: str, rng: random.Random) -> str:
    """The same question as a later one in a conversation."""
    return f"{rng.choice(LINKS)} {text}" if rng.random() < 0.6 else text


def _drop_small_words(text: str, rng: random.Random) -> str:
    words = [word for word in text.split() if word.lower() not in SMALL_WORDS or rng.random() < 0.5]
    return " ".join(words) or text


def _drop_any_words(text: str, rng: random.Random) -> str:
    """A few of the words, now and then in another order: what is left has to do."""
    words = text.split()
    kept = [word for word in words if rng.random() < 0.75] or words
    if rng.random() < 0.3:
        rng.shuffle(kept)
    return " ".join(kept)


def _mistype(text: str, rng: random.Random) -> str:
    at = rng.randrange(len(text))
    letter = text[at]
    match rng.randrange(4):
        case 0:
            return text[:at] + text[at + 1 :]
        case 1:
            return text[:at] + letter + text[at:]
        case 2:
            return text[:at] + text[at + 1 : at + 2] + letter + text[at + 2 :]
        case _:
            near = NEAR.find(letter.lower())
            wrong = NEAR[near + 1 : near + 2] if near >= 0 else letter
            return text[:at] + wrong.strip() + text[at + 1 :]
