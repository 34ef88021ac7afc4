"""Names, places, words and numbers to make questions from; the last quarter of each list is held out."""

import random
import tomllib
from pathlib import Path

LISTS: dict[str, tuple[str, ...]] = {
    name: tuple(words.split())
    for name, words in tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")).items()
}
PLACES = LISTS["places"]
PEOPLE = LISTS["people"]
THINGS = LISTS["things"]
QUALITIES = LISTS["qualities"]
ONSETS = LISTS["onsets"]
VOWELS = LISTS["vowels"]
CODAS = LISTS["codas"]


def part(words: tuple[str, ...], held_out: bool) -> tuple[str, ...]:
    """The part of a list for training, or the part that is held out."""
    border = len(words) * 3 // 4
    return words[border:] if held_out else words[:border]


SPLICED = 0.4
"""Which share of the words to train on is put together from two of the list."""


def one_of(words: tuple[str, ...], rng: random.Random, held_out: bool) -> str:
    """A word of a list, or of those to train on the beginning of one and the end of another.

    What is read often is soon known by heart, and never copied.
    """
    mine = part(words, held_out)
    if held_out or rng.random() >= SPLICED:
        return rng.choice(mine)
    first, second = rng.choice(mine), rng.choice(mine)
    spliced = first[: len(first) // 2 + rng.randint(0, 1)] + second[len(second) // 2 :]
    return first if spliced in part(words, True) else spliced


def place(rng: random.Random, held_out: bool) -> str:
    return one_of(PLACES, rng, held_out) if rng.random() < 0.6 else nonsense(rng).capitalize()


def person(rng: random.Random, held_out: bool) -> str:
    return one_of(PEOPLE, rng, held_out) if rng.random() < 0.6 else nonsense(rng).capitalize()


def thing(rng: random.Random, held_out: bool) -> str:
    return one_of(THINGS, rng, held_out)


def nonsense(rng: random.Random) -> str:
    """A word that nobody knows, of one to three syllables of any kind: it can only be copied."""
    return "".join(
        rng.choice(ONSETS) + rng.choice(VOWELS) + (rng.choice(CODAS) if rng.random() < 0.4 else "")
        for _ in range(rng.randint(1, 3))
    )


def phrase(rng: random.Random, held_out: bool) -> str:
    """One to four words that make some sense together."""
    words = [thing(rng, held_out) if rng.random() < 0.7 else nonsense(rng)]
    if rng.random() < 0.6:
        words.insert(0, rng.choice(QUALITIES))
    if rng.random() < 0.4:
        words += [
            rng.choice(("in", "for", "from", "and", "near", "with")),
            rng.choice((thing, place))(rng, held_out),
        ]
    return " ".join(words)


def salad(rng: random.Random, held_out: bool) -> str:
    """Two to seven words of any kind, to be repeated."""
    kinds = (thing, thing, place, person, lambda r, _: nonsense(r), lambda r, _: str(number(r)))
    return " ".join(rng.choice(kinds)(rng, held_out) for _ in range(rng.randint(2, 7)))


def number(rng: random.Random) -> int:
    return rng.choice((rng.randint(0, 20), rng.randint(0, 99), rng.randint(0, 999), rng.randint(0, 99999)))
