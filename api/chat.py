"""`POST /v1/chat/completions`: a chat's generation in OpenAI's chunks and completions."""

from dataclasses import dataclass, field

import msgspec
from aiohttp import web

from api.calls import call_parts, whole_calls
from api.errors import Fault, Fields
from api.formats import format_field
from api.generate import Generations
from api.logprobs import chat_logprobs
from api.orders import chat_order
from api.reasoning import shows_reasoning
from api.requests import new_id, read_body
from api.schema import ChatBody, decode
from api.shapes import (
    CallBody,
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatLogprobs,
    ChatMessageBody,
    ChunkChoice,
    DeltaBody,
    UsageBody,
    usage_body,
)
from api.telling import DONE, Heading, RunningUsage, UsageWish, sse, sse_failure
from bus.messages.generation import CallFormat, Finish, FinishReason, TokenLogprob, ToolCallDelta
from bus.messages.request import Admitted, Chunk, Completed, Order


@dataclass(frozen=True)
class Manner:
    """How a chat's answers are told, as far as its body says."""

    logprobs: bool = False
    reasoning: bool = True
    """Whether the client gets to see it."""
    named: bool = False
    """One certain function had to be called: OpenAI ends that with `stop` rather than `tool_calls`."""
    functions: bool = False
    """Calls are told in the older form: the body has `functions` rather than `tools`."""

    @classmethod
    def of(cls, body: ChatBody, order: Order) -> "Manner":
        """What the body, and the order made of it, say."""
        named = isinstance(order.format, CallFormat) and order.format.function != ""
        return cls(order.logprobs is not None, shows_reasoning(body), named, bool(body.functions))

    def shown(self, event: Chunk) -> Chunk:
        """The chunk without what its client does not want to see."""
        if self.reasoning or not event.reasoning:
            return event
        return msgspec.structs.replace(event, reasoning="", logprobs=event.logprobs if event.text else ())

    def finish_reason(self, reason: FinishReason) -> str:
        """Why an answer ended, as OpenAI would say it."""
        if self.named and reason is not FinishReason.LENGTH:
            return FinishReason.STOP.value
        called = self.functions and reason is FinishReason.TOOL_CALLS
        return "function_call" if called else reason.value

    def call_delta(self, part: CallBody) -> DeltaBody:
        """A piece of a call."""
        if self.functions:
            return DeltaBody(function_call=part.function)
        return DeltaBody(tool_calls=(part,))


class ChatRoute:
    """The route's handler."""

    def __init__(self, generations: Generations) -> None:
        self._generations = generations

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Stream or answer whole, as the body asks."""
        name = new_id(request, "chatcmpl")
        body = decode(await read_body(request, self._generations.settings), ChatBody)
        order = chat_order(body, name)
        heading = Heading.of(order, self._generations.fingerprint)
        manner = Manner.of(body, order)
        fields = _fields(body, order)
        if body.stream:
            telling = ChatTelling(heading, order.n, UsageWish.of(body.stream_options), manner)
            return await self._generations.stream(request, order, telling, fields)
        return await self._generations.whole(request, order, ChatAnswer(heading, order.n, manner), fields)


def _fields(body: ChatBody, order: Order) -> Fields:
    """What the body called its prompt, its format and its choice among tools."""
    tools, choice = ("functions", "function_call") if body.functions else ("tools", "tool_choice")
    format = tools if isinstance(order.format, CallFormat) else format_field(body)
    return Fields("messages", format, choice)


class ChatTelling:
    """A chat as server-sent events: the role once per answer, deltas, a finish each, usage, `[DONE]`."""

    def __init__(self, heading: Heading, n: int, wish: UsageWish, manner: Manner) -> None:
        self._heading = heading
        self._n = n
        self._wish = wish
        self._manner = manner
        self._usage = RunningUsage(n)

    def admitted(self, event: Admitted) -> bytes:
        """Each answer's opening, which names the role."""
        self._usage.prompt_tokens = sum(event.prompt_tokens)
        opening = DeltaBody(role="assistant", content="")
        return b"".join(self._frame(ChunkChoice(index, opening)) for index in range(self._n))

    def chunk(self, event: Chunk) -> bytes:
        """Reasoning, text, tool calls and the finish, as far as the chunk has them."""
        self._usage.note(event)
        event = self._manner.shown(event)
        logprobs = chat_logprobs(event.logprobs) if self._manner.logprobs and event.logprobs else None
        frames = []
        if event.text or event.reasoning or logprobs is not None:
            frames.append(self._frame(ChunkChoice(event.index, _delta(event), logprobs)))
        frames.extend(
            self._frame(ChunkChoice(event.index, self._manner.call_delta(part)))
            for part in call_parts(event.tool_calls)
        )
        if event.finish is not None:
            reason = self._manner.finish_reason(event.finish.reason)
            frames.append(self._frame(ChunkChoice(event.index, DeltaBody(), None, reason)))
        return b"".join(frames)

    def completed(self, event: Completed) -> bytes:
        """Usage where it is wished for, and the end."""
        if not self._wish.at_end:
            return DONE
        return self._frame(None, usage_body(event.usage)) + DONE

    def failed(self, fault: Fault) -> bytes:
        """The error; no `[DONE]` follows it."""
        return sse_failure(fault)

    def _frame(self, choice: ChunkChoice | None, usage: UsageBody | None = None) -> bytes:
        heading = self._heading
        if usage is None and self._wish.always:
            usage = usage_body(self._usage.so_far)
        return sse(
            ChatChunk(
                heading.id,
                "chat.completion.chunk",
                heading.created,
                heading.model,
                heading.fingerprint,
                () if choice is None else (choice,),
                usage if self._wish.at_end or self._wish.always else msgspec.UNSET,
            )
        )


def _delta(event: Chunk) -> DeltaBody:
    reasoning = event.reasoning or msgspec.UNSET
    content = event.text if event.text or not event.reasoning else msgspec.UNSET
    return DeltaBody(content=content, reasoning_content=reasoning, reasoning=reasoning)


@dataclass
class _Draft:
    """One answer as far as it has come."""

    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: list[ToolCallDelta] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish: Finish | None = None


class ChatAnswer:
    """A chat as one `chat.completion`."""

    def __init__(self, heading: Heading, n: int, manner: Manner) -> None:
        self._heading = heading
        self._manner = manner
        self._drafts = [_Draft() for _ in range(n)]

    def admitted(self, event: Admitted) -> None:
        """It tells nothing that a whole answer needs."""

    def chunk(self, event: Chunk) -> None:
        """Take more of one answer in."""
        event = self._manner.shown(event)
        draft = self._drafts[event.index]
        draft.text.append(event.text)
        draft.reasoning.append(event.reasoning)
        draft.calls.extend(event.tool_calls)
        draft.logprobs.extend(event.logprobs)
        draft.finish = event.finish or draft.finish

    def completed(self, event: Completed) -> bytes:
        """The whole body."""
        heading = self._heading
        return msgspec.json.encode(
            ChatCompletion(
                heading.id,
                "chat.completion",
                heading.created,
                heading.model,
                heading.fingerprint,
                tuple(self._choice(index, draft) for index, draft in enumerate(self._drafts)),
                usage_body(event.usage),
            )
        )

    def _choice(self, index: int, draft: _Draft) -> ChatChoice:
        reason = draft.finish.reason if draft.finish else FinishReason.STOP
        logprobs: ChatLogprobs | None = chat_logprobs(draft.logprobs) if self._manner.logprobs else None
        message = _message(draft, self._manner.functions)
        return ChatChoice(index, message, logprobs, self._manner.finish_reason(reason))


def _message(draft: _Draft, functions: bool) -> ChatMessageBody:
    """`content` is null when there are calls and nothing else."""
    text, reasoning = "".join(draft.text), "".join(draft.reasoning) or msgspec.UNSET
    calls = whole_calls(draft.calls)
    return ChatMessageBody(
        role="assistant",
        content=text if text or not calls else None,
        reasoning_content=reasoning,
        reasoning=reasoning,
        tool_calls=calls if calls and not functions else msgspec.UNSET,
        function_call=calls[0].function if calls and functions else msgspec.UNSET,
    )
