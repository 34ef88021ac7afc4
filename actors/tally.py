"""What the sequences of one request have come to: counts, the chunks to show, and when all is said."""

from dataclasses import dataclass, field

from bus.messages.base import RequestId, SequenceId
from bus.messages.engine import Prefilled, Submit
from bus.messages.facts import RequestState
from bus.messages.generation import Delta, Finish
from bus.messages.request import Chunk, Order, Usage


@dataclass(slots=True)
class Answer:
    """One sequence, from its submission to its finish."""

    index: int
    prompt_tokens: int | None = None
    prefilled: int = 0
    generated: int = 0
    finish: Finish | None = None


@dataclass(slots=True)
class Tally:
    """All answers of a request. Fed with what its runner says, in any order between sequences."""

    order: Order
    answers: dict[SequenceId, Answer] = field(init=False)
    first_token_at: float | None = None
    last_token_at: float | None = None
    admitted: bool = False
    _held: list[Chunk] = field(default_factory=list)

    def __post_init__(self) -> None:
        count = len(self.order.prompts) * self.order.n
        self.answers = {sequence_id(self.order.request, index): Answer(index) for index in range(count)}

    def submits(self) -> tuple[Submit, ...]:
        """What to ask of the engine: answer i of prompt p has index p*n + i and a seed of its own."""
        order = self.order
        return tuple(
            Submit(
                sequence=sequence,
                prompt=order.prompts[answer.index // order.n],
                sampling=order.sampling.reseeded(answer.index % order.n),
                stopping=order.stopping,
                logprobs=order.logprobs,
                echo=order.echo,
            )
            for sequence, answer in self.answers.items()
        )

    def accept(self, sequence: SequenceId, prompt_tokens: int) -> bool:
        """A sequence was taken; true when with this one all of them are."""
        self.answers[sequence].prompt_tokens = prompt_tokens
        self.admitted = all(answer.prompt_tokens is not None for answer in self.answers.values())
        return self.admitted

    def prefill(self, prefilled: Prefilled) -> None:
        """More of a prompt is computed."""
        self.answers[prefilled.sequence].prefilled = prefilled.done

    def add(self, delta: Delta, now: float) -> list[Chunk]:
        """More of one answer; returns what may be shown: nothing before all sequences are accepted."""
        answer = self.answers[delta.sequence]
        answer.generated += delta.tokens
        answer.finish = delta.finish
        answer.prefilled = answer.prompt_tokens or 0
        if delta.tokens:
            self.first_token_at = self.first_token_at or now
            self.last_token_at = now
        chunk = Chunk(
            index=answer.index,
            text=delta.text,
            reasoning=delta.reasoning,
            tool_calls=delta.tool_calls,
            logprobs=delta.logprobs,
            generated=answer.generated,
            finish=delta.finish,
        )
        if not self.admitted:
            self._held.append(chunk)
            return []
        held, self._held = self._held, []
        return [*held, chunk] if _says_something(chunk) else held

    @property
    def shown(self) -> bool:
        """Whether the client may have seen some of the answer, so that it can't be begun again."""
        return self.first_token_at is not None

    @property
    def finished(self) -> bool:
        """Whether every answer has its finish."""
        return all(answer.finish is not None for answer in self.answers.values())

    @property
    def unfinished(self) -> tuple[SequenceId, ...]:
        """The sequences that the engine may still compute."""
        return tuple(name for name, answer in self.answers.items() if answer.finish is None)

    @property
    def prompt_tokens(self) -> tuple[int, ...]:
        """Per prompt, as far as known."""
        firsts = list(self.answers.values())[:: self.order.n]
        return tuple(answer.prompt_tokens or 0 for answer in firsts)

    @property
    def prefilled(self) -> int:
        """Prompt tokens computed, over all answers."""
        return sum(answer.prefilled for answer in self.answers.values())

    @property
    def to_prefill(self) -> int:
        """Prompt tokens to compute, over all answers."""
        return sum(answer.prompt_tokens or 0 for answer in self.answers.values())

    @property
    def generated(self) -> int:
        """Tokens generated, over all answers."""
        return sum(answer.generated for answer in self.answers.values())

    @property
    def tokens_per_s(self) -> float:
        """Decode speed over all answers since the first token."""
        if self.first_token_at is None or self.last_token_at is None:
            return 0.0
        elapsed = self.last_token_at - self.first_token_at
        return (self.generated - 1) / elapsed if elapsed > 0 else 0.0

    @property
    def state(self) -> RequestState:
        """What a person would say it is doing."""
        if self.shown:
            return RequestState.DECODE
        return RequestState.PREFILL if self.prefilled else RequestState.WAITING

    def usage(self) -> Usage:
        """The bill, once finished: the engine's own counts."""
        finishes = [answer.finish for answer in self.answers.values() if answer.finish is not None]
        return Usage(
            prompt_tokens=sum(self.prompt_tokens),
            completion_tokens=sum(finish.completion_tokens for finish in finishes),
            reasoning_tokens=sum(finish.reasoning_tokens for finish in finishes),
        )


def sequence_id(request: RequestId, index: int) -> SequenceId:
    """The name of a request's index-th answer."""
    return SequenceId(f"{request}/{index}")


def _says_something(chunk: Chunk) -> bool:
    """Whether a client would notice it; held-back text and lone token counts are not worth a write."""
    return bool(chunk.text or chunk.reasoning or chunk.tool_calls or chunk.logprobs or chunk.finish)
