"""Prompts, and what the model answers when nothing breaks: the baseline that answers are held against."""

import asyncio
from collections.abc import Iterator
from itertools import islice
from math import inf
from random import Random

import aiohttp
import msgspec

from scripts.fault_runs.asking import Question
from scripts.fault_runs.cluster import ClusterBroken
from scripts.fault_runs.scenarios import LONG_PROMPTS, PROMPTS
from scripts.fault_runs.stream import LONGEST_LINE

MARGIN = 1e-4
"""Natural logarithms of probabilities. Where a rival comes closer, rounding may decide, and rounding differs
between divisions of the model: such a prompt is not asked."""

RIVALS = 3
AT_ONCE = 8
BASELINE_S = 120.0
WORDS = ("river", "stone", "lamp", "cloud", "seven", "green", "slow", "music", "paper", "winter", "door")


class _Logprobs(msgspec.Struct):
    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]


class _Choice(msgspec.Struct):
    text: str
    logprobs: _Logprobs


class _Answer(msgspec.Struct):
    choices: tuple[_Choice, ...]


def prompts(seed: int) -> Iterator[tuple[str, bool, int]]:
    """Endless: a text, whether it is a long one, and how many tokens to answer with."""
    random = Random(f"{seed}/prompts")
    while True:
        long = random.random() < 0.3
        words = random.choices(WORDS, k=random.randint(500, 900) if long else random.randint(5, 40))
        yield " ".join(words), long, random.randint(120, 300)


async def questions(url: str, model: str, seed: int) -> list[Question]:
    """PROMPTS of them, the long ones last, answered by an instance that is ready and idle."""
    short, long = list[Question](), list[Question]()
    drawn = prompts(seed)
    timeout = aiohttp.ClientTimeout(total=BASELINE_S)
    async with aiohttp.ClientSession(timeout=timeout, read_bufsize=LONGEST_LINE) as session:
        while len(short) < PROMPTS - LONG_PROMPTS or len(long) < LONG_PROMPTS:
            some = list(islice(drawn, AT_ONCE))
            answers = await asyncio.gather(
                *(_answered(session, url, model, prompt, max_tokens) for prompt, _, max_tokens in some)
            )
            for (_, is_long, _), question in zip(some, answers, strict=True):
                if question is not None:
                    (long if is_long else short).append(question)
    return [*short[: PROMPTS - LONG_PROMPTS], *long[:LONG_PROMPTS]]


async def _answered(
    session: aiohttp.ClientSession, url: str, model: str, prompt: str, max_tokens: int
) -> Question | None:
    """None: rounding might decide the answer."""
    body = {
        "model": model,
        "prompt": prompt,
        "max_tokens": max_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "logprobs": RIVALS,
    }
    async with session.post(f"{url}/v1/completions", json=body) as response:
        text = await response.text()
    if response.status != 200:
        raise ClusterBroken(f"the answers to compare with can't be had: {response.status} {text}")
    (choice,) = msgspec.json.decode(text, type=_Answer).choices
    if least_margin(choice.logprobs.top_logprobs) < MARGIN:
        return None
    return Question(prompt, max_tokens, choice.text)


def least_margin(tops: list[dict[str, float]]) -> float:
    """The closest that the second best token came, at any position.

    Of rivals with the same text, such as halves of characters, only the best is told, and the chosen one may
    be told twice, with two texts: it is taken for one.
    """
    ranked = [sorted(set(top.values()), reverse=True) for top in tops]
    return min((best - second for best, second, *_ in (row for row in ranked if len(row) > 1)), default=inf)
