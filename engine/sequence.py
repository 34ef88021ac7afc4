"""One sequence from its first generated token to its finish."""

from bus.messages.generation import Delta, Finish, FinishReason, TokenLogprob, ToolCall
from engine.detokenizer import Detokenizer
from engine.logprobs import Likely, Speller, describe
from engine.reply import Reply, Said
from engine.stop import StopMatcher
from engine.work import Job


class Sequence:
    """Turns a job's tokens into deltas: text in whole characters, no stop string, no marker.

    Stop strings are looked for in the answer's content: not in its reasoning, not in its calls.
    """

    def __init__(
        self, job: Job, eos: frozenset[int], detokenizer: Detokenizer, reply: Reply, speller: Speller
    ) -> None:
        self.job = job
        self.generated = 0
        self._eos = eos
        self._detokenizer = detokenizer
        self._reply = reply
        self._speller = speller
        self._stops = StopMatcher(job.stop)
        self._echo = job.echo
        self._reasoning_tokens = 0
        self._characters = 0
        """Of the answer as it was generated, markers and all."""
        self._logprobs: list[tuple[int, TokenLogprob]] = []
        """Where each token's text begins, of tokens whose text is held back."""

    def take(self, token: int, likely: Likely | None) -> Delta:
        """What this token adds; with a finish, the sequence is over."""
        self.generated += 1
        if token in self._eos:
            if not self.job.ignore_eos:
                return self._end(FinishReason.STOP, Said())
            text = ""
        else:
            text = self._detokenizer.add(token)
        said = self._reply.feed(text)
        if self._reply.reasoning:
            self._reasoning_tokens += 1
        if likely is not None:
            entry = describe(token, text, likely, self._speller)
            self._logprobs.append((self._characters, entry))
        self._characters += len(text)
        if self.generated >= self.job.max_tokens:
            return self._end(FinishReason.LENGTH, said)
        return self._show(said)

    def nothing(self) -> Delta:
        """The only delta of a sequence that asked for no tokens."""
        return self._end(FinishReason.LENGTH, Said())

    def _end(self, reason: FinishReason, said: Said) -> Delta:
        tail = self._detokenizer.finish()
        self._characters += len(tail)
        for more in (self._reply.feed(tail), self._reply.finish()):
            said = Said(said.content + more.content, said.reasoning + more.reasoning, said.calls + more.calls)
        if reason is FinishReason.STOP and self._reply.called:
            reason = FinishReason.TOOL_CALLS
        return self._show(said, reason)

    def _show(self, said: Said, ended: FinishReason | None = None) -> Delta:
        passage = self._stops.feed(said.content)
        text = passage.text
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
        return self._delta(text, said.reasoning, said.calls, self._logprobs_before(visible), finish)

    def _delta(
        self,
        text: str,
        reasoning: str,
        calls: tuple[ToolCall, ...],
        logprobs: tuple[TokenLogprob, ...],
        finish: Finish | None,
    ) -> Delta:
        if self._echo:
            text, self._echo = self._echo + text, ""
        return Delta(
            self.job.sequence,
            text=text,
            reasoning=reasoning,
            tool_calls=calls,
            tokens=1 if self.generated else 0,
            logprobs=logprobs,
            finish=finish,
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
        )
