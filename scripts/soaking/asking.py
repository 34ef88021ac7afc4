"""Carries out one errand over HTTP, and tells all that its user saw."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

import aiohttp
import msgspec

from scripts.fault_runs.stream import events
from scripts.soaking.errands import Errand, Leaves
from scripts.soaking.forms import Call

CANCEL_S = 10.0


@dataclass
class Answer:
    """One answer of a request."""

    text: str = ""
    reasoning: str = ""
    calls: dict[int, Call] = field(default_factory=dict)
    finishes: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    """With logprobs: each token's text."""
    margins: list[float] = field(default_factory=list)
    """With logprobs: by how much each token is likelier than the next best, natural logarithms."""

    @property
    def said(self) -> str:
        """All of it, to be compared."""
        calls = [f"{call.name}({call.arguments})" for _, call in sorted(self.calls.items())]
        return "\n".join([self.reasoning, self.text, *calls])


@dataclass
class Outcome:
    """What a user saw of a request."""

    request: str = ""
    """The server's name for it."""
    status: int = 0
    """HTTP's; 0: there was no answer."""
    answers: dict[int, Answer] = field(default_factory=dict)
    completion_tokens: int | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    error: str = ""
    """What the server said went wrong."""
    code: str = ""
    retry_after: str = ""
    broken: str = ""
    """How the connection went wrong; empty: it did not."""
    done: bool = False
    """The stream had its last word."""
    after_end: bool = False
    """Something came after an error or the last word."""
    left: bool = False
    """The user closed the connection."""
    cancelled: int | None = None
    """The status of the answer to a cancel; None: there was none."""
    overdue: bool = False

    def answer(self, index: int) -> Answer:
        return self.answers.setdefault(index, Answer())

    @property
    def is_whole(self) -> bool:
        """All ended as answers do."""
        ends = bool(self.answers) and all(answer.finishes for answer in self.answers.values())
        return ends and not (self.error or self.broken or self.left or self.overdue)


class _Function(msgspec.Struct, frozen=True):
    name: str = ""
    arguments: str = ""


class _Call(msgspec.Struct, frozen=True):
    function: _Function = _Function()
    index: int | None = None


class _Said(msgspec.Struct, frozen=True):
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: tuple[_Call, ...] | None = None


class _Top(msgspec.Struct, frozen=True):
    token: str
    logprob: float


class _Token(msgspec.Struct, frozen=True):
    token: str
    logprob: float
    top_logprobs: tuple[_Top, ...] = ()


class _Logprobs(msgspec.Struct, frozen=True):
    content: tuple[_Token, ...] = ()
    tokens: tuple[str, ...] = ()
    top_logprobs: tuple[dict[str, float] | None, ...] | None = ()


class _Choice(msgspec.Struct, frozen=True):
    index: int
    text: str = ""
    delta: _Said = _Said()
    message: _Said = _Said()
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None


class _Details(msgspec.Struct, frozen=True):
    cached_tokens: int = 0


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Details = _Details()


class _Error(msgspec.Struct, frozen=True):
    message: str = ""
    code: str | None = None


class _Body(msgspec.Struct, frozen=True):
    choices: tuple[_Choice, ...] = ()
    usage: _Usage | None = None
    error: _Error | None = None


_decoder = msgspec.json.Decoder(_Body)


class Asking:
    """One errand under way."""

    def __init__(self, session: aiohttp.ClientSession, url: str, errand: Errand) -> None:
        self._session, self._url, self._errand = session, url, errand
        self._seen = Outcome()
        self._pieces = 0
        self._cancelling: asyncio.Task[None] | None = None

    async def run(self, patience_s: float) -> Outcome:
        """Returns when the connection is over, at the latest after `patience_s`."""
        try:
            async with asyncio.timeout(patience_s):
                await self._ask()
        except TimeoutError:
            self._seen.overdue = True
        except (aiohttp.ClientError, OSError, msgspec.DecodeError) as error:
            self._seen.broken = f"{type(error).__name__}: {error}"
        finally:
            if self._cancelling is not None:
                await self._cancelling
        return self._seen

    async def _ask(self) -> None:
        url = f"{self._url}{self._errand.path}"
        headers = self._errand.key.headers
        async with self._session.post(url, json=self._errand.body, headers=headers) as response:
            self._seen.status = response.status
            self._seen.request = response.headers.get("x-request-id", "")
            self._seen.retry_after = response.headers.get("Retry-After", "")
            try:
                if response.content_type == "text/event-stream":
                    await self._read(response)
                else:
                    self._take(_decoder.decode(await response.read()))
            finally:
                response.close()

    async def _read(self, response: aiohttp.ClientResponse) -> None:
        if self._leaves_now():
            return
        async for event, data in events(response):
            if event == ":":
                continue
            if self._seen.done or self._seen.error:
                self._seen.after_end = True
            if data == "[DONE]":
                self._seen.done = True
            else:
                self._take(_decoder.decode(data))
            if self._leaves_now():
                return

    def _leaves_now(self) -> bool:
        """Whether to close the connection; a cancel is sent and its effect is waited for."""
        if self._pieces < self._errand.after_pieces or self._seen.done:
            return False
        match self._errand.leaves:
            case Leaves.CLOSES:
                self._seen.left = True
                return True
            case Leaves.CANCELS if self._cancelling is None:
                self._cancelling = asyncio.create_task(self._cancel())
            case _:
                pass
        return False

    async def _cancel(self) -> None:
        timeout, headers = aiohttp.ClientTimeout(total=CANCEL_S), self._errand.key.headers
        url = f"{self._url}/v1/cancel/{self._seen.request}"
        try:
            async with self._session.post(url, timeout=timeout, headers=headers) as response:
                self._seen.cancelled = response.status
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._seen.broken = f"the cancel was not answered: {type(error).__name__}: {error}"

    def _take(self, body: _Body) -> None:
        seen = self._seen
        for choice in body.choices:
            answer = seen.answer(choice.index)
            for said in (choice.delta, choice.message):
                answer.text += said.content or ""
                answer.reasoning += said.reasoning_content or ""
                _join(answer, said.tool_calls or ())
            answer.text += choice.text
            self._pieces += 1
            if choice.logprobs is not None:
                _note(answer, choice.logprobs)
            if choice.finish_reason is not None:
                answer.finishes.append(choice.finish_reason)
        if body.usage is not None:
            seen.completion_tokens = body.usage.completion_tokens
            seen.prompt_tokens = body.usage.prompt_tokens
            seen.cached_tokens = body.usage.prompt_tokens_details.cached_tokens
        if body.error is not None:
            seen.error, seen.code = body.error.message or "no reason", body.error.code or ""


def _join(answer: Answer, calls: Iterable[_Call]) -> None:
    for place, call in enumerate(calls):
        index = place if call.index is None else call.index
        before = answer.calls.get(index, Call("", ""))
        answer.calls[index] = Call(
            before.name + call.function.name, before.arguments + call.function.arguments
        )


def _note(answer: Answer, logprobs: _Logprobs) -> None:
    for token in logprobs.content:
        answer.tokens.append(token.token)
        answer.margins.append(_margin([top.logprob for top in token.top_logprobs]))
    for text, tops in zip(logprobs.tokens, logprobs.top_logprobs or (), strict=False):
        answer.tokens.append(text)
        answer.margins.append(_margin(list((tops or {}).values())))


def _margin(logprobs: list[float]) -> float:
    best, *rest = sorted(set(logprobs), reverse=True) or [0.0]
    return best - rest[0] if rest else float("inf")
