"""From the bytes of an answer, with their moments, to what a client saw."""

from collections.abc import Sequence

import msgspec

from scripts.benchmark import sse
from scripts.benchmark.traffic import Seen

Arrivals = Sequence[tuple[float, bytes]]


class _Choice(msgspec.Struct, frozen=True):
    text: str = ""
    finish_reason: str | None = None


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Completion(msgspec.Struct, frozen=True):
    """What of OpenAI's completion, or of a chunk of one, is looked at."""

    choices: tuple[_Choice, ...] = ()
    usage: _Usage | None = None
    error: msgspec.Raw = msgspec.Raw(b"null")


_decoder = msgspec.json.Decoder(_Completion)


def read_stream(seen: Seen, arrivals: Arrivals) -> Seen:
    """Add what a stream of completion chunks says."""
    token_s, comment_s, texts = [], [], []
    finish_reason, usage, error = None, _Usage(), seen.error
    for event in sse.parse(arrivals):
        if event.comment:
            comment_s.append(event.at_s)
        if not event.data or event.data == "[DONE]":
            continue
        chunk = _decoder.decode(event.data)
        for choice in chunk.choices:
            finish_reason = choice.finish_reason or finish_reason
            if choice.text:
                token_s.append(event.at_s)
                texts.append(choice.text)
        usage = chunk.usage or usage
        error = _said(chunk.error) or error
    return msgspec.structs.replace(
        seen,
        token_s=tuple(token_s),
        comment_s=tuple(comment_s),
        text="".join(texts),
        finish_reason=finish_reason,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        error=error,
    )


def read_whole(seen: Seen, arrivals: Arrivals) -> Seen:
    """Add what an answer says that came in one piece, or an error."""
    body = b"".join(piece for _, piece in arrivals)
    try:
        completion = _decoder.decode(body)
    except msgspec.DecodeError:
        return msgspec.structs.replace(seen, error=seen.error or body.decode(errors="replace"))
    usage = completion.usage or _Usage()
    return msgspec.structs.replace(
        seen,
        text="".join(choice.text for choice in completion.choices),
        finish_reason=completion.choices[0].finish_reason if completion.choices else None,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        error=_said(completion.error) or seen.error,
    )


def _said(error: msgspec.Raw) -> str:
    text = bytes(error).decode(errors="replace")
    return "" if text == "null" else text
