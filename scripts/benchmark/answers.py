"""From the bytes of an answer, with their moments, to what a client saw."""

from collections.abc import Sequence

import msgspec

from scripts.benchmark import sse
from scripts.benchmark.traffic import Seen

Arrivals = Sequence[tuple[float, bytes]]


class _Function(msgspec.Struct, frozen=True):
    arguments: str | None = None


class _Call(msgspec.Struct, frozen=True):
    function: _Function = _Function()


class _Said(msgspec.Struct, frozen=True):
    content: str | None = None
    reasoning: str | None = None
    tool_calls: tuple[_Call, ...] | None = None


class _Choice(msgspec.Struct, frozen=True):
    text: str = ""
    delta: _Said = _Said()
    message: _Said = _Said()
    finish_reason: str | None = None

    @property
    def said(self) -> str:
        """All that is new, whatever it is called."""
        parts = [self.text]
        for said in (self.delta, self.message):
            parts += [said.reasoning or "", said.content or ""]
            parts += [call.function.arguments or "" for call in said.tool_calls or ()]
        return "".join(parts)


class _Details(msgspec.Struct, frozen=True):
    cached_tokens: int = 0


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None

    @property
    def cached_tokens(self) -> int:
        return self.prompt_tokens_details.cached_tokens if self.prompt_tokens_details else 0


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
            if choice.said:
                token_s.append(event.at_s)
                texts.append(choice.said)
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
        cached_tokens=usage.cached_tokens,
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
        text="".join(choice.said for choice in completion.choices),
        finish_reason=completion.choices[0].finish_reason if completion.choices else None,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
        error=_said(completion.error) or seen.error,
    )


def _said(error: msgspec.Raw) -> str:
    text = bytes(error).decode(errors="replace")
    return "" if text == "null" else text
