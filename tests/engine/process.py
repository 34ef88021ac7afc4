"""An engine process for tests, spoken to over a real bus, as a Runner does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

from bus.bus import Bus, new_identity
from bus.keys import Keys
from bus.messages.base import NodeId, SequenceId
from bus.messages.engine import (
    Accepted,
    Beat,
    Cancel,
    Load,
    Phase,
    PhaseChange,
    Refused,
    Shutdown,
    Step,
    Submit,
)
from bus.messages.envelope import Body
from bus.messages.generation import (
    Delta,
    Finish,
    Format,
    Prompt,
    Sampling,
    Stopping,
    TokenLogprob,
    ToolCall,
)

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0

T = TypeVar("T")


class Answer:
    """All that was said about one sequence."""

    def __init__(self) -> None:
        self.text = ""
        self.reasoning = ""
        self.calls: list[ToolCall] = []
        self.tokens = 0
        self.logprobs: list[TokenLogprob] = []
        self.finish: Finish | None = None
        self.refused: Refused | None = None
        self.accepted: Accepted | None = None
        self.deltas: list[Delta] = []

    def add(self, delta: Delta) -> None:
        self.deltas.append(delta)
        self.text += delta.text
        self.reasoning += delta.reasoning
        for call in delta.tool_calls:
            if call.index == len(self.calls):
                self.calls.append(ToolCall(call.id, call.name, ""))
            begun = self.calls[call.index]
            self.calls[call.index] = ToolCall(begun.id, begun.name, begun.arguments + call.arguments)
        self.tokens += delta.tokens
        self.logprobs += delta.logprobs
        self.finish = delta.finish or self.finish

    @property
    def over(self) -> bool:
        return self.finish is not None or self.refused is not None


class EngineUnderTest:
    """Its messages so far, and ways to wait for the next."""

    def __init__(self, bus: Bus, process: asyncio.subprocess.Process, identity: bytes) -> None:
        self.process = process
        self.phases: list[PhaseChange] = []
        self.beats: list[Beat] = []
        self.steps: list[Step] = []
        self.said: list[Body] = []
        self.answers: dict[SequenceId, Answer] = {}
        self._news = asyncio.Event()
        self._numbers = iter(range(1 << 30))
        self.peer = bus.expect(identity, receive=self._receive, gone=self._news.set)

    def _receive(self, body: Body) -> None:
        self.said.append(body)
        match body:
            case PhaseChange():
                self.phases.append(body)
            case Beat():
                self.beats.append(body)
            case Step():
                self.steps.append(body)
                for delta in body.deltas:
                    self.answer(delta.sequence).add(delta)
            case Accepted():
                self.answer(body.sequence).accepted = body
            case Refused():
                self.answer(body.sequence).refused = body
            case _:
                pass
        self._news.set()

    def answer(self, sequence: SequenceId) -> Answer:
        return self.answers.setdefault(sequence, Answer())

    async def until(self, condition: Callable[[], T | None]) -> T:
        """Wait until what the engine says makes this true."""
        async with asyncio.timeout(PATIENCE_S):
            while not (value := condition()):
                self._news.clear()
                await self._news.wait()
        return value

    async def load(
        self, folder: Path, context: int | None = None, max_running: int = 64, pace_s: float = 0.06
    ) -> PhaseChange:
        """Load a model in a hurry; returns the phase that ended it: ready or failed."""
        await self.until(lambda: self.said)
        await self.peer.command(Load(str(folder), context, max_running, pace_s, hurry=True), PATIENCE_S)
        return await self.until(
            lambda: next((each for each in self.phases if each.phase in (Phase.READY, Phase.FAILED)), None)
        )

    async def submit(
        self,
        prompt: Prompt,
        sampling: Sampling | None = None,
        stopping: Stopping | None = None,
        logprobs: int | None = None,
        echo: bool = False,
        resume: tuple[int, ...] = (),
        format: Format | None = None,
    ) -> SequenceId:
        sequence = SequenceId(f"sequence-{next(self._numbers)}")
        submit = Submit(
            sequence,
            prompt,
            sampling or Sampling(temperature=0.0),
            stopping or Stopping(),
            logprobs=logprobs,
            echo=echo,
            resume=resume,
            format=format,
        )
        await self.peer.command(submit, PATIENCE_S)
        return sequence

    async def finished(self, sequence: SequenceId) -> Answer:
        answer = self.answer(sequence)
        await self.until(lambda: answer.over)
        return answer

    async def ask(
        self,
        prompt: Prompt,
        sampling: Sampling | None = None,
        stopping: Stopping | None = None,
        logprobs: int | None = None,
        echo: bool = False,
    ) -> Answer:
        """Submit and wait for the end."""
        return await self.finished(await self.submit(prompt, sampling, stopping, logprobs, echo))

    async def cancel(self, *sequences: SequenceId) -> None:
        await self.peer.command(Cancel(sequences), PATIENCE_S)

    async def beat(self, wanted: Callable[[Beat], bool]) -> Beat:
        """The next beat from now on that is as wanted."""
        seen = len(self.beats)
        return await self.until(lambda: next((each for each in self.beats[seen:] if wanted(each)), None))

    async def exit_code(self) -> int:
        async with asyncio.timeout(PATIENCE_S):
            return await self.process.wait()

    async def shut_down(self) -> int:
        await self.peer.command(Shutdown(), PATIENCE_S)
        return await self.exit_code()


@contextlib.asynccontextmanager
async def engine_process(
    *, stderr: int | None = None, keys: Keys | None = None
) -> AsyncIterator[EngineUnderTest]:
    """A fresh engine that has no model yet; killed at the end if it still lives."""
    bus = await Bus.open(NodeId("test"))
    identity = new_identity()
    process = await asyncio.create_subprocess_exec(
        *command(bus.commands_endpoint, identity),
        stdin=asyncio.subprocess.PIPE,
        stderr=stderr,
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    assert process.stdin is not None
    process.stdin.write(b"%b %b\n" % (keys.public, keys.private) if keys else b"\n")
    engine = EngineUnderTest(bus, process, identity)
    try:
        yield engine
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        process.stdin.close()
        await bus.close()


def command(endpoint: str, identity: bytes) -> list[str]:
    return [sys.executable, "-m", "engine", "--connect", endpoint, "--identity", identity.hex()]
