"""What is not a topic: things that the guide can't know, counting, and repeating words."""

import random
from collections.abc import Callable

from scripts.guide import words
from scripts.guide.conversation import Conversation, answer, user
from scripts.guide.wording import choose, finish, vary

DONT_KNOW = (
    "I don't know that: I am a very small model and know only exo_actors. "
    "For other questions, start the node with --model and a bigger model."
)
DONT_KNOW_FACT = "know only exo_actors"

OFF_TOPIC = (
    "what is the [capital|population|size|flag|president|language|history] of {place}",
    "[who is|who was|do you know|how old is] {person}",
    "[how do I|how can I|how to] [cook|make|buy|draw|paint|clean|repair|grow|eat|sell] [a|some|] {thing}",
    "[tell me about|what do you know about|explain|describe] [the|a|] {thing}",
    "[what is|what's|define] [a|the best|a good|] {thing}",
    "[write|compose] [a poem|a song|a haiku|some code|a letter|a program] about [a|the|] {thing}",
    "[where is|how far is|how do I get to|what can I see in] {place}",
    "[what is|what's|how much is|calculate|compute] {number} [plus|times|minus|divided by|+|*] {number}",
    "[why is|is] the {thing} {quality}",
    "[recommend|suggest] a {quality} {thing}",
    "[what is|how is|what's] the weather in {place} [today|tomorrow|]",
    "[translate|spell|what is the plural of] {thing} [into French|in German|into Spanish|]",
    "who [invented|wrote|painted|built|discovered] the {thing}",
    "[do you like|do you eat|do you have|have you seen] [a|the|] {thing}",
    "[which|what] [film|book|song|team|country|year|colour|car] [is best|do you like|won|should I choose]",
    "how many {thing}s are in {place}",
    "what [time|day|date|year] is it",
    "what does {nonsense} mean",
    "[why|how] does a {thing} [work|fly|swim|grow|taste {quality}]",
    "[when|where] was {person} born",
    "[convert|change] {number} [dollars|miles|pounds|degrees] to [euros|kilometres|kilos|celsius]",
    "is [a|the|] {thing} {quality} or {quality}",
    "[what is|solve] the [meaning of life|square root of {number}|answer to everything]",
)
HELD_OUT_OFF_TOPIC = (
    "what should I cook with {thing} today",
    "which is the largest city near {place}",
    "who won the {thing} championship",
    "how tall is {person}",
    "what colour is a {thing}",
    "give me a recipe for {thing}",
)

COUNT_TO = (
    "count to {b}",
    "count up to {b}",
    "count from 1 to {b}",
    "[please|can you] count to {b}",
    "[write|list] the numbers [up to|from 1 to] {b}",
    "count from one to {b}",
)
COUNT_FROM = (
    "count from {a} to {b}",
    "[write|list] the numbers from {a} to {b}",
    "count [on|up] from {a} to {b}",
)

REPEAT = (
    "say {text}",
    "repeat {text}",
    "[repeat after me|say this|repeat this|say|please say|echo]: {text}",
    "[write|print|echo] {text}",
    "[say|repeat|write] the words {text}",
    'say "{text}"',
    "can you say {text}",
)


FILLERS: dict[str, Callable[[random.Random, bool], str]] = {
    "{place}": words.place,
    "{person}": words.person,
    "{thing}": words.thing,
    "{quality}": lambda rng, _: rng.choice(words.QUALITIES),
    "{nonsense}": lambda rng, _: words.nonsense(rng),
    "{number}": lambda rng, _: str(words.number(rng)),
}


def fill(template: str, rng: random.Random, held_out: bool) -> str:
    """Put words of each kind in place of `{kind}`, every one anew."""
    for name, make in FILLERS.items():
        while name in template:
            template = template.replace(name, make(rng, held_out), 1)
    return template


def off_topic(rng: random.Random, held_out: bool = False) -> Conversation:
    """A question that only a bigger model can answer."""
    template = rng.choice(HELD_OUT_OFF_TOPIC if held_out else OFF_TOPIC)
    text = choose(fill(template, rng, held_out), rng)
    asked = finish(text, rng) if held_out else vary(text, rng)
    return Conversation("off topic", (user(asked), answer(DONT_KNOW)), facts=(DONT_KNOW_FACT,))


def counting(rng: random.Random, held_out: bool = False) -> Conversation:
    """Count from one number to another; the answer is all of them."""
    if rng.random() < 0.5:
        first, last = 1, rng.choices((rng.randint(2, 30), rng.randint(31, 130)), (70, 30))[0]
        template = rng.choice(COUNT_TO)
    else:
        first = rng.choice((rng.randint(0, 100), rng.randint(100, 980)))
        last = first + rng.randint(2, 30)
        template = rng.choice(COUNT_FROM)
    asked = choose(template, rng).format(a=first, b=last)
    numbers = " ".join(map(str, range(first, last + 1)))
    return Conversation("counting", (user(finish(asked, rng)), answer(numbers)), facts=(numbers,))


def repeating(rng: random.Random, held_out: bool = False) -> Conversation:
    """Say what the person says."""
    text = words.salad(rng, held_out)
    asked = choose(rng.choice(REPEAT), rng).replace("{text}", text)
    asked = asked[:1].upper() + asked[1:] if rng.random() < 0.6 else asked
    return Conversation("repeating", (user(asked), answer(text)), facts=(text,))
