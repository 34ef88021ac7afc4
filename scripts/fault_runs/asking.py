"""A client: sends one request, notes what comes back and when, and leaves early where it is told to."""

import asyncio
from dataclasses import dataclass

import aiohttp
import msgspec

from scripts.fault_runs.history import (
    Accepted,
    Closed,
    Failed,
    Finished,
    GaveUp,
    Leaving,
    Piece,
    Refused,
    Submitted,
)
from scripts.fault_runs.recorder import Recorder
from scripts.fault_runs.stream import LONGEST_LINE, events

CANCEL_S = 5.0
"""How long the answer to a cancel may take."""


class _Choice(msgspec.Struct):
    text: str = ""
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    completion_tokens: int


class _Chunk(msgspec.Struct):
    choices: tuple[_Choice, ...] = ()
    usage: _Usage | None = None
    error: msgspec.Raw = msgspec.Raw()


_decoder = msgspec.json.Decoder(_Chunk)


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt whose answer is known."""

    prompt: str
    max_tokens: int
    answer: str


@dataclass(frozen=True, slots=True)
class Errand:
    """What a client is to do."""

    request: str
    node: str
    url: str
    model: str
    question: Question
    leaves: Leaving | None = None
    after_pieces: int = 0
    probe: bool = False


class Asker:
    """Carries one errand out."""

    def __init__(self, errand: Errand, recorder: Recorder) -> None:
        self._errand = errand
        self._recorder = recorder
        self._id = ""
        self._pieces = 0
        self._tokens: int | None = None
        self._done = False
        self._limit: asyncio.Timeout | None = None

    def hurry(self, patience_s: float) -> None:
        """Wait only so long from now: its node will never answer."""
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(asyncio.get_running_loop().time() + patience_s)

    async def run(self, patience_s: float) -> None:
        """Returns when the connection is over, at the latest after `patience_s`."""
        errand, add = self._errand, self._recorder.add
        error, overdue = "", False
        add(self._submitted())
        try:
            async with asyncio.timeout(patience_s) as self._limit:
                error = await self._ask()
        except TimeoutError:
            error, overdue = "nothing ended it in time", True
        finally:
            self._limit = None
        closed = Closed(
            at_s=self._recorder.now_s,
            request=errand.request,
            tokens=self._tokens,
            error=error,
            overdue=overdue,
        )
        add(closed)

    def _submitted(self) -> Submitted:
        errand = self._errand
        return Submitted(
            at_s=self._recorder.now_s,
            request=errand.request,
            node=errand.node,
            prompt=errand.question.prompt,
            max_tokens=errand.question.max_tokens,
            expected=errand.question.answer,
            probe=errand.probe,
        )

    async def _ask(self) -> str:
        """Why the connection ended, where it did not end as an answer does."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5.0)
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(
            timeout=timeout, connector=connector, read_bufsize=LONGEST_LINE
        ) as session:
            try:
                async with session.post(f"{self._errand.url}/v1/completions", json=self._body()) as response:
                    if response.status != 200:
                        self._refused(response.status, await response.text())
                        return f"HTTP {response.status}"
                    self._id = response.headers.get("x-request-id", "")
                    await self._read(response)
            except (aiohttp.ClientError, OSError) as error:
                if not self._id:
                    self._refused(0, str(error))
                return f"{type(error).__name__}: {error}"
        return "" if self._done or self._gives_up else "the stream ended without [DONE]"

    @property
    def _gives_up(self) -> bool:
        return self._errand.leaves is not None

    def _body(self) -> dict[str, object]:
        return {
            "model": self._errand.model,
            "prompt": self._errand.question.prompt,
            "max_tokens": self._errand.question.max_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    def _refused(self, status: int, text: str) -> None:
        event = Refused(at_s=self._recorder.now_s, request=self._errand.request, status=status, error=text)
        self._recorder.add(event)

    async def _read(self, response: aiohttp.ClientResponse) -> None:
        opened = Accepted(at_s=self._recorder.now_s, request=self._errand.request, id=self._id)
        self._recorder.add(opened)
        leaving: asyncio.Task[None] | None = None
        try:
            async for name, data in events(response):
                if name == ":":
                    pass
                elif data == "[DONE]":
                    self._done = True
                else:
                    self._take(_decoder.decode(data))
                if leaving is None and self._is_enough():
                    if self._errand.leaves is Leaving.DISCONNECT:
                        self._gave_up(0)
                        return
                    leaving = asyncio.create_task(self._cancel())
        finally:
            response.close()
            if leaving is not None:
                await leaving

    def _is_enough(self) -> bool:
        return self._gives_up and not self._done and self._pieces >= self._errand.after_pieces

    def _take(self, chunk: _Chunk) -> None:
        now_s, request = self._recorder.now_s, self._errand.request
        for choice in chunk.choices:
            if choice.text:
                self._pieces += 1
                self._recorder.add(Piece(at_s=now_s, request=request, text=choice.text))
            if choice.finish_reason is not None:
                self._recorder.add(Finished(at_s=now_s, request=request, reason=choice.finish_reason))
        if chunk.usage is not None:
            self._tokens = chunk.usage.completion_tokens
        if (error := bytes(chunk.error)) not in (b"", b"null"):
            self._done = True
            self._recorder.add(Failed(at_s=now_s, request=request, error=error.decode()))

    async def _cancel(self) -> None:
        status = 0
        try:
            timeout = aiohttp.ClientTimeout(total=CANCEL_S)
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(f"{self._errand.url}/v1/cancel/{self._id}") as response,
            ):
                status = response.status
        except (aiohttp.ClientError, OSError, TimeoutError):
            status = 0
        self._gave_up(status)

    def _gave_up(self, status: int) -> None:
        leaves = self._errand.leaves
        if leaves is not None:
            event = GaveUp(at_s=self._recorder.now_s, request=self._errand.request, how=leaves, status=status)
            self._recorder.add(event)
