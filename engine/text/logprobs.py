"""Likely tokens in the form that clients get: as numbers and as text."""

from typing import Protocol

from bus.messages.generation import TokenLogprob, TopLogprob
from engine.steps.likely import Likely


class Speller(Protocol):
    """Knows the bytes of each token."""

    def bytes_of(self, token: int) -> bytes: ...


def describe(token: int, text: str, likely: Likely | None, speller: Speller) -> TokenLogprob:
    """In the form that clients get. `text` is what the token added to the answer: of a character that
    several tokens make up, the last one has it all, so that the texts join to the answer. Without `likely`
    there was nothing before the token that could make it likely."""
    if likely is None:
        return TokenLogprob(token, text, speller.bytes_of(token), None)
    return TokenLogprob(
        token=token,
        text=text,
        bytes=speller.bytes_of(token),
        logprob=likely.chosen,
        top=tuple(
            TopLogprob(
                token=rival,
                text=(spelled := speller.bytes_of(rival)).decode(errors="replace"),
                bytes=spelled,
                logprob=logprob,
            )
            for rival, logprob in likely.top
        ),
    )
