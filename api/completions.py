"""`POST /v1/completions`: plain continuations of texts or token ids."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec
from aiohttp import web

from api.errors import Fault, Fields
from api.formats import format_field
from api.generate import Generations
from api.logprobs import completion_logprobs
from api.orders import chooses_best, completion_order
from api.requests import new_id, read_body
from api.schema import CompletionBody, decode
from api.shapes import CompletionLogprobs, TextChoice, TextCompletion, UsageBody, usage_body
from api.telling import DONE, Heading, RunningUsage, UsageWish, sse, sse_failure
from bus.messages.generation import Finish, FinishReason, TokenLogprob
from bus.messages.request import Admitted, Chunk, Completed, Order


class CompletionRoute:
    """The route's handler."""

    def __init__(self, generations: Generations) -> None:
        self._generations = generations

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Stream or answer whole, as the body asks."""
        name = new_id(request, "cmpl")
        body = decode(await read_body(request, self._generations.settings), CompletionBody)
        order = completion_order(body, name)
        heading = Heading.of(order, self._generations.fingerprint)
        fields = Fields("prompt", format_field(body))
        if body.stream:
            telling = CompletionTelling(heading, order.n, UsageWish.of(body.stream_options), order.logprobs)
            return await self._generations.stream(request, order, telling, fields)
        best = (body.n or 1) if chooses_best(body) else None
        answer = CompletionAnswer(heading, order, body.logprobs, best)
        return await self._generations.whole(request, order, answer, fields)


class CompletionTelling:
    """A completion as server-sent events: parts of texts, a finish each, usage, `[DONE]`."""

    def __init__(self, heading: Heading, n: int, wish: UsageWish, logprobs: int | None = None) -> None:
        self._heading = heading
        self._wish = wish
        self._logprobs = logprobs
        self._offsets: dict[int, int] = {}
        self._usage = RunningUsage(n)

    def admitted(self, event: Admitted) -> bytes:
        """Nothing to tell yet: there is no role to name."""
        self._usage.prompt_tokens = sum(event.prompt_tokens)
        return b""

    def chunk(self, event: Chunk) -> bytes:
        """The chunk's text and finish, if it has one of them."""
        self._usage.note(event)
        if not (event.text or event.logprobs or event.finish):
            return b""
        reason = None if event.finish is None else _reason(event.finish)
        return self._frame(TextChoice(event.index, event.text, self._probabilities(event), reason))

    def completed(self, event: Completed) -> bytes:
        """Usage where it is wished for, and the end."""
        if not self._wish.at_end:
            return DONE
        return self._frame(None, usage_body(event.usage)) + DONE

    def failed(self, fault: Fault) -> bytes:
        """The error; no `[DONE]` follows it."""
        return sse_failure(fault)

    def _probabilities(self, event: Chunk) -> CompletionLogprobs | None:
        if self._logprobs is None or not event.logprobs:
            return None
        offset = self._offsets.get(event.index, 0)
        self._offsets[event.index] = offset + sum(len(token.text) for token in event.logprobs)
        return completion_logprobs(event.logprobs, offset, rivals=self._logprobs > 0)

    def _frame(self, choice: TextChoice | None, usage: UsageBody | None = None) -> bytes:
        if usage is None and self._wish.always:
            usage = usage_body(self._usage.so_far)
        wished = self._wish.at_end or self._wish.always
        choices = () if choice is None else (choice,)
        return sse(_body(self._heading, choices, usage if wished else msgspec.UNSET))


@dataclass
class _Draft:
    """One answer as far as it has come."""

    text: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish: Finish | None = None

    def likelihood(self, before: int) -> float:
        """The mean log-probability of its tokens, of which so many are the echoed prompt's. An answer
        without any is worse than all others."""
        own = [token.logprob or 0.0 for token in self.logprobs[before:]]
        return sum(own) / len(own) if own else -math.inf


class CompletionAnswer:
    """A completion as one `text_completion`."""

    def __init__(self, heading: Heading, order: Order, logprobs: int | None, best: int | None = None) -> None:
        """`best`: of the answers to each prompt, so many are told, the likeliest first; None: all of them."""
        self._heading = heading
        self._order = order
        self._logprobs = logprobs
        self._best = best
        self._prompt_tokens: tuple[int, ...] = ()
        self._drafts = [_Draft() for _ in range(len(order.prompts) * order.n)]

    def admitted(self, event: Admitted) -> None:
        """How many tokens each prompt has."""
        self._prompt_tokens = event.prompt_tokens

    def chunk(self, event: Chunk) -> None:
        """Take more of one answer in."""
        draft = self._drafts[event.index]
        draft.text.append(event.text)
        draft.logprobs.extend(event.logprobs)
        draft.finish = event.finish or draft.finish

    def completed(self, event: Completed) -> bytes:
        """The whole body."""
        choices = tuple(self._choice(index, draft) for index, draft in enumerate(self._told()))
        return msgspec.json.encode(_body(self._heading, choices, usage_body(event.usage)))

    def _told(self) -> Iterator[_Draft]:
        """The drafts that become choices, prompt by prompt."""
        if self._best is None:
            yield from self._drafts
            return
        for prompt, tokens in enumerate(self._prompt_tokens):
            drafts = self._drafts[prompt * self._order.n : (prompt + 1) * self._order.n]
            before = tokens if self._order.echo else 0
            yield from sorted(drafts, key=lambda draft: -draft.likelihood(before))[: self._best]

    def _choice(self, index: int, draft: _Draft) -> TextChoice:
        logprobs = None
        if self._logprobs is not None:
            logprobs = completion_logprobs(draft.logprobs, 0, rivals=self._logprobs > 0)
        reason = _reason(draft.finish) if draft.finish else FinishReason.STOP.value
        return TextChoice(index, "".join(draft.text), logprobs, reason)


def _body(
    heading: Heading, choices: tuple[TextChoice, ...], usage: UsageBody | msgspec.UnsetType | None
) -> TextCompletion:
    return TextCompletion(
        heading.id, "text_completion", heading.created, heading.model, heading.fingerprint, choices, usage
    )


def _reason(finish: Finish) -> str:
    """Plain completions know no tool calls."""
    return FinishReason.LENGTH.value if finish.reason is FinishReason.LENGTH else FinishReason.STOP.value
