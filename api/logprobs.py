"""Logprobs in the shapes of the two generating routes."""

from collections.abc import Iterable

from api.shapes import ChatLogprobs, ChosenToken, CompletionLogprobs, TopToken
from bus.messages.generation import TokenLogprob

LEAST = -9999.0
"""What OpenAI says for a token that is as good as impossible; JSON knows no infinity."""


def chat_logprobs(tokens: Iterable[TokenLogprob]) -> ChatLogprobs:
    """Each token with its text, its bytes and its rivals, the most likely first."""
    return ChatLogprobs([_chosen(token) for token in tokens])


def completion_logprobs(tokens: Iterable[TokenLogprob], offset: int, rivals: bool) -> CompletionLogprobs:
    """One list per property; `offset` is where in the answer's text the first token begins."""
    chosen = list(tokens)
    offsets = []
    for token in chosen:
        offsets.append(offset)
        offset += len(token.text)
    return CompletionLogprobs(
        tokens=[token.text for token in chosen],
        token_logprobs=[_known(token.logprob) for token in chosen],
        top_logprobs=[_by_text(token) for token in chosen] if rivals else None,
        text_offset=offsets,
    )


def _chosen(token: TokenLogprob) -> ChosenToken:
    top = sorted(token.top, key=lambda rival: -rival.logprob)
    return ChosenToken(
        token.text,
        _finite(LEAST if token.logprob is None else token.logprob),
        list(token.bytes),
        [TopToken(rival.text, _finite(rival.logprob), list(rival.bytes)) for rival in top],
    )


def _by_text(token: TokenLogprob) -> dict[str, float] | None:
    """Rivals by text, the chosen one among them; of two with the same text the likelier stays."""
    if token.logprob is None:
        return None
    found: dict[str, float] = {}
    for rival in sorted(token.top, key=lambda rival: -rival.logprob):
        found.setdefault(rival.text, _finite(rival.logprob))
    found.setdefault(token.text, _finite(token.logprob))
    return found


def _known(logprob: float | None) -> float | None:
    return None if logprob is None else _finite(logprob)


def _finite(logprob: float) -> float:
    """Not below LEAST, and LEAST for what is not a number."""
    return max(LEAST, logprob)
