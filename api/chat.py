"""`POST /v1/chat/completions`: a chat's generation in OpenAI's chunks and completions."""

from dataclasses import dataclass, field

import msgspec
from aiohttp import web

from api.errors import Fault
from api.generate import Generations
from api.logprobs import chat_logprobs
from api.orders import chat_order
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
    FunctionBody,
    UsageBody,
    usage_body,
)
from api.telling import DONE, Heading, RunningUsage, UsageWish, sse, sse_failure
from bus.messages.generation import Finish, FinishReason, TokenLogprob, ToolCall
from bus.messages.request import Admitted, Chunk, Completed, Usage


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
        single = body.parallel_tool_calls is False
        logprobs = order.logprobs is not None
        if body.stream:
            telling = ChatTelling(heading, order.n, UsageWish.of(body.stream_options), logprobs, single)
            return await self._generations.stream(request, order, telling, "messages")
        answer = ChatAnswer(heading, order.n, logprobs, single)
        return await self._generations.whole(order, answer, "messages")


class ChatTelling:
    """A chat as server-sent events: the role once per answer, deltas, a finish each, usage, `[DONE]`."""

    def __init__(
        self, heading: Heading, n: int, wish: UsageWish, logprobs: bool = False, single_call: bool = False
    ) -> None:
        self._heading = heading
        self._n = n
        self._wish = wish
        self._logprobs = logprobs
        self._single_call = single_call
        self._calls = [0] * n
        self._usage = RunningUsage()

    def admitted(self, event: Admitted) -> bytes:
        """Each answer's opening, which names the role."""
        self._usage.prompt_tokens = sum(event.prompt_tokens)
        opening = DeltaBody(role="assistant", content="")
        return b"".join(self._frame(ChunkChoice(index, opening)) for index in range(self._n))

    def chunk(self, event: Chunk) -> bytes:
        """Reasoning, text, tool calls and the finish, as far as the chunk has them."""
        self._usage.note(event)
        logprobs = chat_logprobs(event.logprobs) if self._logprobs and event.logprobs else None
        frames = []
        if event.text or event.reasoning or logprobs is not None:
            frames.append(self._frame(ChunkChoice(event.index, _delta(event), logprobs)))
        for call in event.tool_calls:
            frames.extend(self._call(event.index, call))
        if event.finish is not None:
            reason = event.finish.reason.value
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

    def _call(self, index: int, call: ToolCall) -> list[bytes]:
        """A call's opening with id and name, then its arguments."""
        number = self._calls[index]
        if self._single_call and number:
            return []
        self._calls[index] += 1
        opening = CallBody(FunctionBody("", call.name), number, call.id, "function")
        arguments = CallBody(FunctionBody(call.arguments), number)
        return [
            self._frame(ChunkChoice(index, DeltaBody(tool_calls=(part,)))) for part in (opening, arguments)
        ]

    def _frame(self, choice: ChunkChoice | None, usage: UsageBody | None = None) -> bytes:
        heading = self._heading
        if usage is None and self._wish.always:
            usage = usage_body(Usage(self._usage.prompt_tokens, self._usage.completion_tokens))
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
    calls: list[ToolCall] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish: Finish | None = None


class ChatAnswer:
    """A chat as one `chat.completion`."""

    def __init__(self, heading: Heading, n: int, logprobs: bool = False, single_call: bool = False) -> None:
        self._heading = heading
        self._logprobs = logprobs
        self._single_call = single_call
        self._drafts = [_Draft() for _ in range(n)]

    def chunk(self, event: Chunk) -> None:
        """Take more of one answer in."""
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
        logprobs: ChatLogprobs | None = chat_logprobs(draft.logprobs) if self._logprobs else None
        return ChatChoice(index, self._message(draft), logprobs, reason.value)

    def _message(self, draft: _Draft) -> ChatMessageBody:
        """`content` is null when there are calls and nothing else."""
        text, reasoning = "".join(draft.text), "".join(draft.reasoning) or msgspec.UNSET
        calls = draft.calls[:1] if self._single_call else draft.calls
        return ChatMessageBody(
            role="assistant",
            content=text if text or not calls else None,
            reasoning_content=reasoning,
            reasoning=reasoning,
            tool_calls=tuple(_whole_call(call) for call in calls) or msgspec.UNSET,
        )


def _whole_call(call: ToolCall) -> CallBody:
    return CallBody(FunctionBody(call.arguments, call.name), id=call.id, type="function")
