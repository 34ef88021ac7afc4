"""Whether answers that came under load are those that a server gives which does one thing at a time."""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from enum import Enum
from random import Random

import aiohttp

from scripts.soaking.asking import Answer, Asking, Outcome
from scripts.soaking.errands import CHAT, Errand, Leaves

TIE = 1e-4
"""Natural logarithms. Where a rival comes closer, rounding may decide, and rounding hangs on the batch."""
RIVALS = 5
ALONE_S = 120.0


class Verdict(Enum):
    """How an answer compares with the one that was given alone."""

    SAME = "the same"
    TIE = "parted where two tokens were as likely"
    OTHER = "not the same"


@dataclass(frozen=True, slots=True)
class Sample:
    """A greedy request, and what was answered."""

    errand: Errand
    said: tuple[str, ...]
    request: str = ""
    """The server's name for it."""


def sample_of(errand: Errand, seen: Outcome) -> Sample | None:
    """What is to be asked again; None: its answer is not determined, or it had none to its end."""
    if not errand.is_greedy or not seen.is_whole:
        return None
    return Sample(errand, tuple(answer.said for _, answer in sorted(seen.answers.items())), seen.request)


def chosen(samples: Sequence[Sample], put_off: Container[str], count: int, random: Random) -> list[Sample]:
    """Which are asked again: those that were put off first, and then any: pure."""
    mixed = random.sample(samples, len(samples))
    return sorted(mixed, key=lambda sample: sample.request not in put_off)[:count]


async def compare(session: aiohttp.ClientSession, url: str, sample: Sample) -> tuple[Verdict, str]:
    """Ask again, alone; the verdict, and where the answers part."""
    seen = await Asking(session, url, alone(sample.errand)).run(ALONE_S)
    if not seen.is_whole:
        return Verdict.OTHER, f"alone it has no answer: {seen.error or seen.broken or 'no end'}"
    return judged(sample.said, [answer for _, answer in sorted(seen.answers.items())])


def alone(errand: Errand) -> Errand:
    """The same request without haste, with what tells ties: pure."""
    body = {name: value for name, value in errand.body.items() if name not in ("stream", "stream_options")}
    body.pop("timeout", None)
    body |= {"logprobs": True, "top_logprobs": RIVALS} if errand.path == CHAT else {"logprobs": RIVALS}
    return Errand(
        errand.name,
        errand.kind,
        errand.path,
        body,
        errand.tokens,
        errand.max_tokens,
        Leaves.STAYS,
        form=errand.form,
    )


def judged(said: Sequence[str], again: Sequence[Answer]) -> tuple[Verdict, str]:
    """Of all answers of a request, the worst verdict: pure."""
    worst, where = Verdict.SAME, ""
    for text, answer in zip(said, again, strict=True):
        if text == answer.said:
            continue
        at = parted(text, answer.said)
        place = f"from character {at} on {text[at : at + 40]!r} instead of {answer.said[at : at + 40]!r}"
        if not _is_tie(answer, at):
            return Verdict.OTHER, place
        worst, where = Verdict.TIE, place
    return worst, where


def parted(one: str, other: str) -> int:
    """The first character that is not the same."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (left, right) in pairs if left != right), min(len(one), len(other)))


def _is_tie(answer: Answer, at: int) -> bool:
    """Whether the token at that character was chosen by a hair, or one just before it."""
    start = 1 + len(answer.reasoning)
    for text, margin in zip(answer.tokens, answer.margins, strict=False):
        end = start + len(text)
        if start > at:
            return False
        if end >= at and margin < TIE:
            return True
        start = end
    return False
