"""What the sequences of one request have come to: counts, the chunks to show, and how to go on elsewhere."""

import secrets
from dataclasses import dataclass, field

from msgspec.structs import replace

from bus.messages.base import RequestId, SequenceId
from bus.messages.engine import Prefilled, Queued, Submit
from bus.messages.facts import RequestState
from bus.messages.generation import Delta, Finish, Sampling
from bus.messages.request import Chunk, Order, Usage


@dataclass(slots=True)
class Answer:
    """One sequence, from its submission to its finish."""

    index: int
    prompt_tokens: int | None = None
    prefilled: int = 0
    cached: int = 0
    """Of the prompt, what the engine had kept from before."""
    eta_s: float | None = None
    """Until its prompt is computed."""
    queued: Queued | None = None
    """It stands in the engine's line; None: it does not, or not any more."""
    resumes: bool = False
    """It was put off after its tokens had begun to flow."""
    flowed: bool = False
    """The engine that works on it now has brought tokens of it."""
    generated: int = 0
    finish: Finish | None = None
    ids: list[int] = field(default_factory=list)
    """Its tokens so far: all that another engine needs to go on with it."""

    def begin_again(self) -> None:
        """Its engine is lost: nothing of what that one had computed is there."""
        self.prefilled, self.cached, self.eta_s = 0, 0, None
        self.queued, self.resumes, self.flowed = None, False, False


@dataclass(slots=True)
class Tally:
    """All answers of a request, over all engines that work on it. Fed with what they say, in any order
    between sequences.

    With each engine that is lost, what is unfinished gets new names: whatever still comes under the old ones
    is not expected any more, and so no token can count twice.
    """

    order: Order
    answers: dict[SequenceId, Answer] = field(init=False)
    """By the names that they have now."""
    first_token_at: float | None = None
    last_token_at: float | None = None
    admitted: bool = False
    flowing: bool = False
    """Tokens come from the engine that works on it now."""
    losses: int = 0
    """Engines that were lost."""
    _lot: int = field(default_factory=lambda: secrets.randbits(63))
    """The seed of an order that brings none: it must stay the same from engine to engine."""
    _held: list[Chunk] = field(default_factory=list)

    def __post_init__(self) -> None:
        count = len(self.order.prompts) * self.order.n
        self.answers = {sequence_id(self.order.request, index): Answer(index) for index in range(count)}

    def submits(self) -> tuple[Submit, ...]:
        """What to ask of an engine, of all that is unfinished: answer i of prompt p has index p*n + i and a
        seed of its own. Those of one prompt come one after the other, so that it is computed once."""
        order = self.order
        return tuple(
            Submit(
                sequence=sequence,
                prompt=order.prompts[answer.index // order.n],
                sampling=self._sampling(answer.index),
                stopping=order.stopping,
                logprobs=order.logprobs,
                echo=order.echo,
                resume=tuple(answer.ids),
                format=order.format,
                priority=order.priority,
                embed=order.embed,
            )
            for sequence, answer in self.answers.items()
            if answer.finish is None
        )

    def _sampling(self, index: int) -> Sampling:
        """Where the client gave no seed, the same prompt twice must not get the same answer twice."""
        sampling = self.order.sampling
        if sampling.seed is not None:
            return sampling.reseeded(index % self.order.n)
        return replace(sampling, seed=self._lot).reseeded(index)

    def lose(self) -> tuple[SequenceId, ...]:
        """The engine is lost: what is unfinished is to be submitted again. Returns its names so far."""
        old = self.unfinished
        self.losses += 1
        self.flowing = False
        answers = list(self.answers.items())
        self.answers = {}
        for name, answer in answers:
            if answer.finish is None:
                answer.begin_again()
                name = sequence_id(self.order.request, answer.index, self.losses)
            self.answers[name] = answer
        return old

    def expects(self, sequence: SequenceId) -> bool:
        """Whether there may be more of a sequence of that name; else it comes from an engine that is lost."""
        return sequence in self.answers and self.answers[sequence].finish is None

    def accept(self, sequence: SequenceId, prompt_tokens: int) -> bool:
        """A sequence was taken; true when with this one all of them are, for the first time."""
        self.answers[sequence].prompt_tokens = prompt_tokens
        if self.admitted:
            return False
        self.admitted = all(answer.prompt_tokens is not None for answer in self.answers.values())
        return self.admitted

    def prefill(self, prefilled: Prefilled) -> None:
        """More of a prompt is computed. The answer so far comes after it, and is not counted."""
        answer = self.answers[prefilled.sequence]
        whole = prefilled.total - len(answer.ids)
        answer.prefilled, answer.cached = min(prefilled.done, whole), min(prefilled.cached, whole)
        answer.eta_s, answer.queued = prefilled.eta_s, None

    def queue(self, queued: Queued) -> None:
        """One answer waits for its turn, perhaps in the middle."""
        answer = self.answers[queued.sequence]
        answer.queued, answer.eta_s = queued, None
        answer.resumes = answer.resumes or answer.flowed
        answer.prefilled = 0
        self._see_whether_it_flows()

    def add(self, delta: Delta, now: float) -> list[Chunk]:
        """More of one answer; returns what may be shown: nothing before all sequences are accepted."""
        answer = self.answers[delta.sequence]
        answer.generated += delta.tokens
        answer.ids += delta.ids
        answer.finish = delta.finish
        answer.prefilled, answer.eta_s = answer.prompt_tokens or 0, None
        if delta.tokens:
            answer.flowed, answer.resumes, answer.queued = True, False, None
            self.flowing = True
            self.first_token_at = self.first_token_at or now
            self.last_token_at = now
        self._see_whether_it_flows()
        chunk = Chunk(
            index=answer.index,
            text=delta.text,
            reasoning=delta.reasoning,
            tool_calls=delta.tool_calls,
            logprobs=delta.logprobs,
            generated=answer.generated,
            finish=delta.finish,
            embedding=delta.embedding,
            cached=answer.cached,
        )
        if not self.admitted:
            self._held.append(chunk)
            return []
        held, self._held = self._held, []
        return [*held, chunk] if _says_something(chunk) else held

    def _see_whether_it_flows(self) -> None:
        """Nothing flows while all that is unfinished stands in line."""
        unfinished = self._unfinished()
        if unfinished and all(answer.queued is not None for answer in unfinished):
            self.flowing = False

    def _unfinished(self) -> list[Answer]:
        return [answer for answer in self.answers.values() if answer.finish is None]

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
    def cached(self) -> int:
        """Of those, what had not to be computed, as far as known."""
        return sum(answer.cached for answer in self.answers.values())

    @property
    def eta_s(self) -> float | None:
        """Until the prompts that are being computed are; None: not known, or none is."""
        known = [answer.eta_s for answer in self._unfinished() if answer.eta_s is not None]
        return max(known, default=None)

    @property
    def queued(self) -> Queued | None:
        """Of the answers that stand in line, the first one's place, while no other one goes on; else None."""
        waiting = [answer.queued for answer in self._unfinished()]
        standing = [queued for queued in waiting if queued is not None]
        if self.flowing or len(standing) < len(waiting):
            return None
        return min(standing, key=lambda queued: queued.place, default=None)

    @property
    def resumes(self) -> bool:
        """The first one in line was put off after its tokens had begun to flow."""
        queued = self.queued
        return queued is not None and self.answers[queued.sequence].resumes

    @property
    def goes_on(self) -> bool:
        """The first one in line has tokens already: of this engine, or of one that was lost."""
        queued = self.queued
        return queued is not None and bool(self.answers[queued.sequence].ids)

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
        if self.flowing:
            return RequestState.DECODE
        prefills = any(answer.prefilled and answer.finish is None for answer in self.answers.values())
        return RequestState.PREFILL if prefills else RequestState.WAITING

    def usage(self) -> Usage:
        """The bill, once finished: the engine's own counts."""
        finishes = [answer.finish for answer in self.answers.values() if answer.finish is not None]
        return Usage(
            prompt_tokens=sum(self.prompt_tokens),
            completion_tokens=sum(finish.completion_tokens for finish in finishes),
            reasoning_tokens=sum(finish.reasoning_tokens for finish in finishes),
            cached_tokens=self._cached_tokens(),
        )

    def _cached_tokens(self) -> int:
        """Of all prompts, each counted once: the answers of one share what was computed for the first."""
        firsts = list(self.answers.values())[:: self.order.n]
        return sum(
            min(answer.finish.cached_tokens, answer.prompt_tokens or 0)
            for answer in firsts
            if answer.finish is not None
        )


def sequence_id(request: RequestId, index: int, losses: int = 0) -> SequenceId:
    """The name of a request's index-th answer, after it lost so many engines."""
    return SequenceId(f"{request}/{index}/{losses}" if losses else f"{request}/{index}")


def _says_something(chunk: Chunk) -> bool:
    """Whether a client would notice it; held-back text and lone token counts are not worth a write."""
    return bool(chunk.text or chunk.reasoning or chunk.tool_calls or chunk.logprobs or chunk.finish)
