"""Guesses from a sequence's own tokens: what followed when it last said what it says now.

Prompt look-up decoding (Saxena, github.com/apoorvumang/prompt-lookup-decoding) and LLMA (Yang et al.,
arXiv:2304.04487). Answers that quote their prompt, such as edits, summaries and code, repeat parts of it.
"""

from array import array
from collections.abc import Iterable, Sequence
from typing import Final

SHORTEST: Final = 2
"""Tokens at the end that must have stood somewhere before."""
LONGEST: Final = 16
"""Tokens that are compared: places that agree in so many are equally good."""
TRIED: Final = 24
"""Places that are compared, latest first."""
INDEXED_AT_ONCE: Final = 16_384
"""Tokens taken into the index in one call, about 5 ms: a long prompt holds up no step."""

_NOWHERE: Final = -1


class Lookup:
    """One sequence's tokens, and where each pair of neighbours stood.

    Places of the same pair are linked from the latest to the first, so that a token costs one entry, and a
    proposal a bounded number of comparisons however long the sequence is.
    """

    def __init__(self, tokens: Iterable[int] = ()) -> None:
        self._tokens = array("q", tokens)
        self._latest: dict[tuple[int, int], int] = {}
        """What follows a pair begins here: the latest place."""
        self._before = array("q", (_NOWHERE, _NOWHERE))
        """By place: the place before it that follows the same pair. As long as what is indexed."""

    def __len__(self) -> int:
        return len(self._tokens)

    @property
    def tokens(self) -> Sequence[int]:
        return self._tokens

    def extend(self, tokens: Iterable[int]) -> None:
        self._tokens.extend(tokens)

    def propose(self, at_most: int, shortest: int = SHORTEST) -> tuple[int, ...]:
        """What may follow, if the last `shortest` tokens (2 or more) stood somewhere before; else nothing.

        The place that agrees in most tokens is taken, and the latest of these. Where its tokens run into the
        end of the sequence, the guess goes on with itself: what repeats with a short period goes on so.
        """
        self._index()
        place = self._best(max(shortest, SHORTEST))
        if place == _NOWHERE:
            return ()
        end = len(self._tokens)
        guess = list(self._tokens[place : place + at_most])
        while len(guess) < at_most:
            guess.append(guess[len(guess) - (end - place)])
        return tuple(guess)

    def _index(self) -> None:
        """Take in the next tokens. The pair at the very end is left out: nothing follows it yet."""
        tokens, latest, before = self._tokens, self._latest, self._before
        begin = len(before)
        for place in range(begin, min(len(tokens), begin + INDEXED_AT_ONCE)):
            pair = tokens[place - 2], tokens[place - 1]
            before.append(latest.get(pair, _NOWHERE))
            latest[pair] = place

    def _best(self, shortest: int) -> int:
        tokens = self._tokens
        if len(tokens) < shortest:
            return _NOWHERE
        place = self._latest.get((tokens[-2], tokens[-1]), _NOWHERE)
        best, longest = _NOWHERE, shortest - 1
        for _ in range(TRIED):
            if place == _NOWHERE or longest == LONGEST:
                break
            agreed = self._agreement(place)
            if agreed > longest:
                best, longest = place, agreed
            place = self._before[place]
        return best

    def _agreement(self, place: int) -> int:
        """How many tokens before `place` are those at the end; at least SHORTEST, which the index found."""
        tokens, end = self._tokens, len(self._tokens)
        most = min(place, LONGEST)
        agreed = SHORTEST
        while agreed < most and tokens[place - 1 - agreed] == tokens[end - 1 - agreed]:
            agreed += 1
        return agreed
