"""One sequence from its first generated token to its finish."""

import codecs
from collections.abc import Sequence as Several
from hashlib import blake2b

from bus.messages.base import SequenceId
from bus.messages.generation import Delta, Finish, FinishReason, TokenLogprob, ToolCallDelta
from engine.steps.likely import Likely
from engine.text.detokenizer import Detokenizer
from engine.text.logprobs import Speller, describe
from engine.text.reply import Reply, Said
from engine.text.stop import Passage, StopMatcher
from engine.work import Job


class Sequence:
    """Turns a job's tokens into deltas: text in whole characters, no stop string, no marker.

    Stop strings are looked for in the answer's content: not in its reasoning, not in its calls.

    Everything that a delta says hangs on the tokens alone, so a job that comes with some of its answer is
    taken up by reading them again in silence: what was half said, such as a character, a marker, a call or a
    possible stop string, is half said again. Log-probabilities can't be had again. Where they are wanted,
    a delta waits until nothing is held back: then whoever has its tokens has all that belongs to them.
    Text of a call that can't be told yet is not held back in this sense: it is read again with its tokens.
    """

    def __init__(
        self, job: Job, eos: frozenset[int], detokenizer: Detokenizer, reply: Reply, speller: Speller
    ) -> None:
        self.job = job
        self.generated = 0
        self.cached = 0
        """Of the prompt's tokens: those that had not to be computed."""
        self._eos = eos
        self._detokenizer = detokenizer
        self._reply = reply
        self._speller = speller
        self._stops = StopMatcher(job.stop)
        self._reasoning_tokens = 0
        self._characters = 0
        """Of the answer as it was generated, markers and all."""
        self._logprobs: list[tuple[int, TokenLogprob]] = []
        """Where each token's text begins, of tokens whose text is held back."""
        self._unsaid = Said(content="" if job.resumed else job.echo)
        """What waits to be told."""
        self._ids: tuple[int, ...] = ()
        """Tokens since the last delta that told any."""
        for token in job.answered:
            self._pass(self._read(token)[1])

    def prompt(self, likely: Several[Likely | None]) -> None:
        """What was likely at each of the prompt's tokens, None at the first; told with the first delta. To be
        called once at most, before anything is taken."""
        tokens = self.job.tokens[: self.job.prompt_tokens]
        told = zip(tokens, _texts(tokens, self.job.echo, self._speller), likely, strict=True)
        self._logprobs = [(-1, describe(token, text, each, self._speller)) for token, text, each in told]

    def take(self, token: int, likely: Likely | None) -> Delta:
        """What this token adds; with a finish, the sequence is over."""
        self._ids += (token,)
        if token in self._eos and not self.job.ignore_eos:
            self.generated += 1
            return self._end(FinishReason.STOP, Said())
        begins = self._characters
        text, said = self._read(token)
        if likely is not None:
            self._logprobs.append((begins, describe(token, text, likely, self._speller)))
        if self._reply.over:
            return self._end(FinishReason.STOP, said)
        if self.generated >= self.job.max_tokens:
            return self._end(FinishReason.LENGTH, said)
        return self._show(said)

    def nothing(self) -> Delta:
        """The only delta of a sequence that asked for no (more) tokens."""
        return self._end(FinishReason.LENGTH, Said())

    def embedded(self, vector: bytes, cached: int) -> Delta:
        """The only delta of a prompt whose embedding was asked for: float32, little-endian."""
        finish = Finish(FinishReason.STOP, completion_tokens=0, cached_tokens=cached)
        return Delta(self.job.sequence, finish=finish, embedding=vector)

    @property
    def _may_stop(self) -> bool:
        """As with vLLM, a stop string counts if it is complete after the least number of tokens."""
        return self.generated > self.job.min_tokens

    def _read(self, token: int) -> tuple[str, Said]:
        """A token's text, and what it says."""
        self.generated += 1
        text = "" if token in self._eos else self._detokenizer.add(token)
        said = self._reply.feed(text)
        if self._reply.reasoning:
            self._reasoning_tokens += 1
        self._characters += len(text)
        return text, said

    def _end(self, reason: FinishReason, said: Said) -> Delta:
        tail = self._detokenizer.finish()
        self._characters += len(tail)
        for more in (self._reply.feed(tail), self._reply.finish()):
            said += more
        if reason is FinishReason.STOP and self._reply.called:
            reason = FinishReason.TOOL_CALLS
        return self._show(said, reason)

    def _pass(self, said: Said) -> tuple[str, Passage]:
        """What may be shown of its content. No stop string goes on behind a call, or counts in one that could
        not be read: what was held back before it comes before it."""
        before = self._stops.flush() if said.calls or said.unread else ""
        passage = self._stops.feed(said.content[said.unread :], self._may_stop)
        return before + said.content[: said.unread] + passage.text, passage

    def _show(self, said: Said, ended: FinishReason | None = None) -> Delta:
        text, passage = self._pass(said)
        finish = None
        if passage.stop is not None:
            finish = self._finish(FinishReason.STOP, passage.stop)
            visible = self._characters - passage.dropped
        elif ended is not None:
            text += self._stops.flush()
            finish = self._finish(ended)
            visible = self._characters + 1
        else:
            visible = self._characters - self._reply.held - self._stops.held
        self._unsaid += Said(text, said.reasoning, said.calls)
        if finish is None and self._waits(visible):
            return Delta(self.job.sequence)
        return self._delta(self._logprobs_before(visible), finish)

    def _waits(self, visible: int) -> bool:
        """Whether a delta would tell tokens whose log-probabilities have to wait for their text."""
        if self.job.logprobs is None:
            return False
        return visible < self._characters or any(begins >= visible for begins, _ in self._logprobs)

    def _delta(self, logprobs: tuple[TokenLogprob, ...], finish: Finish | None) -> Delta:
        said, self._unsaid = self._unsaid, Said()
        ids, self._ids = self._ids, ()
        return Delta(
            self.job.sequence,
            text=said.content,
            reasoning=said.reasoning,
            tool_calls=tuple(self._named(call) for call in said.calls),
            tokens=len(ids),
            logprobs=logprobs,
            finish=finish,
            ids=ids,
        )

    def _logprobs_before(self, visible: int) -> tuple[TokenLogprob, ...]:
        """Those of tokens whose text begins before this character; the others wait with their text."""
        count = sum(begins < visible for begins, _ in self._logprobs)
        ready, self._logprobs = self._logprobs[:count], self._logprobs[count:]
        return tuple(entry for _, entry in ready)

    def _finish(self, reason: FinishReason, stop: str | None = None) -> Finish:
        return Finish(
            reason,
            completion_tokens=self.generated,
            reasoning_tokens=self._reasoning_tokens,
            stop_string=stop,
            cached_tokens=self.cached,
        )

    def _named(self, call: ToolCallDelta) -> ToolCallDelta:
        """With its id, where it begins."""
        if not call.name:
            return call
        return ToolCallDelta(call.index, call_id(self.job.sequence, call.index), call.name, call.arguments)


def call_id(sequence: SequenceId, call: int) -> str:
    """The id of an answer's call of that number: the same on whichever engine the answer is made, as a
    sequence's name says after the request and the answer's number how many engines it has lost."""
    answer = "/".join(sequence.split("/")[:2])
    return "call_" + blake2b(f"{answer}/{call}".encode(), digest_size=12, person=b"tool call").hexdigest()


def _texts(tokens: Several[int], echo: str, speller: Speller) -> list[str]:
    """Each token's share of a prompt's text. What a tokenizer puts before it, and is not in it, has none."""
    decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
    texts: list[str] = []
    for token in tokens:
        text = decode(speller.bytes_of(token))
        share = next((each for each in (text, text.removeprefix(" ")) if echo.startswith(each)), "")
        texts.append(share)
        echo = echo[len(share) :]
    return texts
