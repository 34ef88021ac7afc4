"""Whether what a user saw is what was promised: pure."""

import re
from collections.abc import Iterator

from scripts.soaking.asking import Outcome
from scripts.soaking.errands import Errand, Key, Leaves, Refused
from scripts.soaking.forms import wrong

FINISHES = ("stop", "length", "tool_calls")
TOO_LONG = ("context_length_exceeded", "does_not_fit")


def problems(errand: Errand, seen: Outcome) -> list[str]:
    """All that was not as promised; none: the request ended in one of the ways in which it may."""
    return list(_problems(errand, seen))


def _problems(errand: Errand, seen: Outcome) -> Iterator[str]:
    if seen.overdue:
        yield "nothing ended it in time"
        return
    if seen.left:
        return
    if seen.broken:
        yield seen.broken
        return
    if seen.after_end:
        yield "something came after its end"
    if errand.refused is not Refused.NEVER:
        yield from _refused(errand, seen)
    elif seen.error:
        yield from _announced(errand, seen)
    else:
        yield from _ended(errand, seen)


def _refused(errand: Errand, seen: Outcome) -> Iterator[str]:
    if not seen.error or seen.status == 200:
        yield f"was to be refused ({errand.refused.value}), and was answered with {seen.status}"
    elif _is_full(seen):
        return
    elif errand.refused is Refused.TOO_LONG and seen.code not in TOO_LONG:
        yield f"was to be refused as too long, and was as {_told(seen)}"
    elif errand.refused is Refused.TOO_LONG and len(re.findall(r"\d+", seen.error)) < 2:
        yield f"was refused without the numbers: {seen.error}"
    elif errand.refused is Refused.NOT_SERVED and seen.status != 400:
        yield f"was to be refused with 400, and was with {_told(seen)}"
    elif errand.refused is Refused.UNKNOWN and (seen.status, seen.code) != (401, "invalid_api_key"):
        yield f"was to be refused with 401, and was with {_told(seen)}"


def _announced(errand: Errand, seen: Outcome) -> Iterator[str]:
    """Of an error: whether it may come."""
    late = errand.leaves is Leaves.TIMES_OUT and seen.code == "timeout"
    cancelled = errand.leaves is Leaves.CANCELS and seen.code == "cancelled"
    over = errand.key is Key.LIMITED and seen.code == "rate_limit_exceeded" and _says_when(seen)
    if not (late or cancelled or over or _is_full(seen)):
        yield f"failed: {_told(seen)}"
    if cancelled and seen.cancelled != 200:
        yield f"was cancelled, though the cancel was answered with {seen.cancelled}"


def _is_full(seen: Outcome) -> bool:
    """Refused because too many wait, with the time after which to ask again."""
    return seen.code == "overloaded" and _says_when(seen)


def _says_when(seen: Outcome) -> bool:
    return seen.status == 429 and seen.retry_after.isdecimal()


def _ended(errand: Errand, seen: Outcome) -> Iterator[str]:
    """Of a request that has no error: whether each of its answers has its one end."""
    if seen.status != 200:
        yield f"was answered with {seen.status} and no error"
    if errand.streams and not seen.done:
        yield "is a stream that just ends"
    if sorted(seen.answers) != list(range(errand.answers)):
        yield f"has answers {sorted(seen.answers)} of {errand.answers}"
    for index, answer in sorted(seen.answers.items()):
        if len(answer.finishes) != 1 or answer.finishes[0] not in FINISHES:
            yield f"answer {index} has the ends {answer.finishes}"
        elif not answer.text.startswith(errand.echoes):
            yield f"answer {index} does not begin with its prompt: {answer.text[:40]!r}"
        elif answer.finishes == ["length"] and not errand.form.ends:
            continue
        elif answer.finishes == ["length"]:
            yield f"answer {index} is longer than {errand.form.value} can be: {answer.text!r}"
        elif reason := wrong(errand.form, answer.text, list(answer.calls.values())):
            yield f"answer {index} is no {errand.form.value}: {reason}"
    yield from _counted(errand, seen)


def _counted(errand: Errand, seen: Outcome) -> Iterator[str]:
    most = errand.answers * errand.max_tokens
    if seen.completion_tokens is None:
        yield "has no usage"
    elif not 0 < seen.completion_tokens <= most:
        yield f"took {seen.completion_tokens} tokens of {most}"
    elif seen.completion_tokens < most and all(
        answer.finishes == ["length"] for answer in seen.answers.values()
    ):
        yield f"took {seen.completion_tokens} tokens of {most}, and says that it reached the limit"
    if not 0 <= seen.cached_tokens <= max(seen.prompt_tokens, 0) * errand.answers:
        yield f"has {seen.cached_tokens} of {seen.prompt_tokens} prompt tokens from the cache"


def _told(seen: Outcome) -> str:
    return f"{seen.status} {seen.code or 'without a code'}: {seen.error}"
