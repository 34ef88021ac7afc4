"""One answer held to a format: where it stands, what it may take next, and when its reasoning has to end."""

import codecs
import copy
from collections.abc import Sequence
from typing import Final

import numpy as np
from llguidance import LLMatcher
from numpy.typing import NDArray

from engine.constraints.words import Words
from engine.text.markers import Thinking
from engine.text.reply import Channel, Splitter

NOTHING_LEFT: Final = "no token is left that the format allows"


class Watch:
    """Follows an answer's text through the model's own markers, as those read it who sort its text later."""

    def __init__(self, words: Words, splitter: Splitter) -> None:
        self._words = words
        self._splitter = splitter
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    @property
    def channel(self) -> Channel:
        return self._splitter.channel

    def take(self, token: int) -> str:
        """Returns what it said on the channel on which the text stands now."""
        table = self._words.table
        text = self._decoder.decode(table[token] if token < len(table) else b"")
        segments = self._splitter.split(text)
        return segments[-1].text if segments else ""

    def rest(self) -> str:
        """What was held back, as it might have become a marker."""
        return self._splitter.flush()

    def fork(self) -> "Watch":
        twin = Watch(self._words, copy.copy(self._splitter))
        twin._decoder.setstate(self._decoder.getstate())
        return twin


class Constraint:
    """Of one sequence. Free while the model reasons, then held to a grammar, if there is one.

    Where it can't go on, `failure` says why, and it is free from then on.
    """

    def __init__(
        self,
        words: Words,
        grammar: LLMatcher | None,
        watch: Watch | None,
        thinking: Thinking | None,
        budget: int | None = None,
        call_start: str = "",
    ) -> None:
        """`grammar`: at its beginning, and this constraint's own; None: only the reasoning is limited.
        `watch`: at the answer's beginning; None: there is no reasoning. `budget` in tokens of reasoning."""
        self.words = words
        self.failure: str | None = None
        self._grammar = grammar
        self._watch = watch
        self._thinking = thinking
        self._budget = budget
        self._call_start = call_start
        self._spent = 0
        self._tail: list[int] = []
        """The last tokens of the reasoning, of which an end marker may be under way."""
        self._forced: tuple[int, ...] = ()
        self._held = grammar is not None and (watch is None or watch.channel is Channel.CONTENT)
        self._possible = True
        """The grammar goes along with all that was said so far."""
        opens = self._held and watch is not None and thinking is not None and budget != 0
        self._opened: int | None = 0 if opens else None
        """How many tokens of the marker that opens reasoning stand there; None: it is too late for it."""
        self._layout = False
        """Line breaks may follow, which are no part of the format: most models write them after reasoning."""
        self._limit()

    @property
    def free(self) -> bool:
        """Any token may come next."""
        return self.failure is not None or not (self._held or self._forced)

    @property
    def matcher(self) -> LLMatcher | None:
        """What knows of all tokens whether they may come next, if it is asked."""
        return self._grammar if self._held and self._possible and not self._forced else None

    def take(self, token: int) -> None:
        """A token was chosen."""
        if self.failure is not None:
            return
        if self._held:
            self._take_held(token)
        elif self._watch is not None:
            self._take_watched(self._watch, token)

    def settle(self, allowed: NDArray[np.bool_]) -> bool:
        """Complete what the matcher allows, [vocabulary, rounded up]; False if the answer can't go on."""
        if self._forced:
            allowed[self._forced[0]] = True
            return True
        if self._possible and self._grammar is not None:
            self._check(self._grammar, allowed)
        if self._opened is not None and self._thinking is not None:
            allowed[self._thinking.start[self._opened]] = True
        if self._layout:
            allowed[list(self.words.line_breaks)] = True
        if self.failure is None and not allowed.any():
            self.failure = NOTHING_LEFT
        return self.failure is None

    def forced(self) -> tuple[int, ...]:
        """Tokens that come next whatever the model says, as far as that is known; may be empty."""
        if self._forced and self.failure is None:
            return self._forced
        certain = self._held and self._possible and self._opened is None and not self._layout
        if self.failure is not None or not certain or self._grammar is None:
            return ()
        return tuple(self._grammar.compute_ff_tokens())

    def fork(self) -> "Constraint":
        """A twin that goes its own way: for tokens that may yet be taken back."""
        twin = copy.copy(self)
        twin._grammar = self._grammar.deep_copy() if self._grammar else None
        twin._watch = self._watch.fork() if self._watch else None
        twin._tail = list(self._tail)
        return twin

    # -- held to the grammar ---------------------------------------------------------------------

    def _take_held(self, token: int) -> None:
        grammar, thinking = self._grammar, self._thinking
        assert grammar is not None
        opens = self._opened is not None and thinking is not None and thinking.start[self._opened] == token
        breaks = self._layout and token in self.words.line_breaks
        self._layout = False
        fits = self._possible and (not (opens or breaks) or grammar.validate_tokens([token]) == 1)
        self._opened = self._opened + 1 if opens and self._opened is not None else None
        if opens and thinking is not None and self._opened == len(thinking.start):
            self._reason(grammar, thinking)
        elif fits:
            if not grammar.consume_token(token):
                self.failure = _told(grammar.get_error())
        elif opens:
            self._possible = False
        elif not breaks:
            self.failure = "a token was taken that the format does not allow"

    def _reason(self, grammar: LLMatcher, thinking: Thinking) -> None:
        """The answer opened its reasoning by itself."""
        grammar.reset()
        self._opened, self._possible, self._held = None, True, False
        if self._watch is not None:
            for token in thinking.start:
                self._watch.take(token)
        self._limit()

    def _check(self, grammar: LLMatcher, allowed: NDArray[np.bool_]) -> None:
        if grammar.is_error():
            self.failure = _told(grammar.get_error())
        elif not grammar.is_accepting() and allowed[list(self.words.eos)].any():
            # This is how the library says that nothing goes on from here.
            self.failure = NOTHING_LEFT

    # -- free, but watched -----------------------------------------------------------------------

    def _take_watched(self, watch: Watch, token: int) -> None:
        reasoning = watch.channel is Channel.REASONING
        if self._forced:
            self._forced = self._forced[1:] if token == self._forced[0] else ()
        said = watch.take(token)
        if reasoning:
            self._spent += 1
            self._tail = [*self._tail, token][-len(self._thinking.end) :] if self._thinking else []
        if watch.channel in (Channel.CONTENT, Channel.TOOL) and self._grammar is not None:
            self._hold(self._grammar, watch, said)
        elif watch.channel is not Channel.REASONING:
            self._tail = []
            self._forced = ()
        else:
            self._limit()

    def _hold(self, grammar: LLMatcher, watch: Watch, said: str) -> None:
        """The reasoning is over: what was said since then is the format's first text."""
        self._forced, self._held = (), True
        calls = watch.channel is Channel.TOOL
        text = (self._call_start if calls else "") + said + watch.rest()
        text = text.lstrip()
        self._layout = not text
        if text and not grammar.consume_tokens(self.words.tokens_of(text)):
            self.failure = "the reasoning ended with text that the format does not allow"

    def _limit(self) -> None:
        """End the reasoning where its budget is spent."""
        watch, thinking = self._watch, self._thinking
        if self._budget is None or watch is None or thinking is None or self._forced:
            return
        if watch.channel is Channel.REASONING and self._spent >= self._budget:
            self._forced = thinking.end[_overlap(self._tail, thinking.end) :]


def _overlap(tail: Sequence[int], marker: Sequence[int]) -> int:
    """How much of a marker the tokens so far end with."""
    lengths = range(min(len(tail), len(marker) - 1), 0, -1)
    return next((n for n in lengths if list(tail[-n:]) == list(marker[:n])), 0)


def _told(error: str) -> str:
    """What the library says, for a person: https://docs.rs/llguidance, `StopReason` and errors."""
    first = error.partition("\n")[0]
    if first.startswith("NoExtension"):
        return NOTHING_LEFT
    if "TooComplex" in first:
        return "the format became too complex to be held to any longer"
    return first or "the format can't be held to any longer"
