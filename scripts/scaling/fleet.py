"""The processes that hold light nodes, as the measuring one has them."""

import asyncio
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from signal import SIGKILL
from typing import Final, Self, assert_never

import msgspec

from scripts.scaling.holder import READY
from scripts.scaling.timeline import Wanted, agreed_since, holds_since
from scripts.scaling.words import (
    Heard,
    Mark,
    Measure,
    Measured,
    Open,
    Opened,
    Order,
    Report,
    Saw,
)

PATIENCE_S: Final = 60.0
"""For anything that is waited for."""

_STOP_S: Final = 10.0
_LONGEST_LINE: Final = 2**20


class Overdue(Exception):
    """What was waited for did not come about."""


class Held:
    """One process and its nodes."""

    def __init__(self, process: Process, take: Callable[[Saw | Heard], None]) -> None:
        self._process, self._take = process, take
        self._answers: asyncio.Queue[Opened | Measured] = asyncio.Queue()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, folder: Path, take: Callable[[Saw | Heard], None]) -> Self:
        """Start it; its nodes can be opened without delay then."""
        command = (sys.executable, "-m", "scripts.scaling.holder", str(folder))
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, limit=_LONGEST_LINE, start_new_session=True
        )
        assert process.stdout is not None
        if await process.stdout.readline() != READY:
            raise Overdue(f"a process for light nodes ended with code {await process.wait()}")
        return cls(process, take)

    async def open(self, nodes: Iterable[int], peers: Iterable[str]) -> dict[int, str]:
        """Start these nodes at once; returns where each is."""
        answer = await self._ask(Open(tuple(nodes), tuple(peers)))
        assert isinstance(answer, Opened)
        return answer.addresses

    async def measure(self) -> Measured:
        """What its nodes have said and heard so far."""
        answer = await self._ask(Measure())
        assert isinstance(answer, Measured)
        return answer

    def tell(self, order: Order) -> None:
        """Pass it on, without an answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")

    async def kill(self) -> float:
        """With SIGKILL; returns when, in seconds of the monotonic clock."""
        at = time.monotonic()
        self._process.send_signal(SIGKILL)
        await self._end()
        return at

    async def close(self) -> None:
        """Let its nodes leave, and wait for its end."""
        if self._process.returncode is None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            with suppress(TimeoutError):
                async with asyncio.timeout(_STOP_S):
                    await self._process.wait()
            if self._process.returncode is None:
                self._process.kill()
        await self._end()

    async def _end(self) -> None:
        await self._process.wait()
        self._reading.cancel()
        with suppress(asyncio.CancelledError):
            await self._reading

    async def _ask(self, order: Order) -> Opened | Measured:
        self.tell(order)
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self._answers.get()
        except TimeoutError:
            what = type(order).__name__
            raise Overdue(f"a process of light nodes did not answer {what} within {PATIENCE_S:g} s") from None

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            report = msgspec.json.decode(line, type=Report)
            match report:
                case Opened() | Measured():
                    self._answers.put_nowait(report)
                case Saw() | Heard():
                    self._take(report)
                case _:
                    assert_never(report)


class Fleet:
    """All of them, and what their nodes saw."""

    def __init__(self, folder: Path) -> None:
        self.timelines: dict[int, list[Saw]] = defaultdict(list)
        self.heard: dict[int, dict[int, float]] = defaultdict(dict)
        """How long each mark took to each node, in seconds."""
        self._folder = folder
        self._held: list[Held] = []
        self._where: dict[int, Held] = {}
        self._news = asyncio.Event()

    async def start(self, count: int) -> list[Held]:
        """That many processes, without nodes yet. Raises Overdue."""
        return await asyncio.gather(*(self._start_one() for _ in range(count)))

    async def open(self, held: Held, nodes: Collection[int], peers: Iterable[str] = ()) -> dict[int, str]:
        """Start these nodes in that process; returns where each is."""
        for node in nodes:
            self._where[node] = held
            self.timelines[node].clear()
        return await held.open(nodes, peers)

    async def kill(self, node: int) -> float:
        """Kill the process of a node; returns when."""
        held = self._where.pop(node)
        self._held.remove(held)
        at = await held.kill()
        self.timelines.pop(node)
        return at

    async def until(self, nodes: Collection[int], wanted: Wanted, what: str) -> float:
        """Wait until all these nodes see what is wanted; returns since when. Raises Overdue."""
        return await self._wait(lambda: holds_since(self.timelines, nodes, wanted), what)

    async def agree(self, nodes: Collection[int], without: str = "") -> float:
        """Wait until all these see one coordinator, and not that one; returns since when. Raises Overdue."""
        what = "all to agree on a coordinator"
        return await self._wait(lambda: agreed_since(self.timelines, nodes, without), what)

    async def spread(self, node: int, mark: int, count: int) -> list[float]:
        """Set a fact on one node; returns how long it took to each of the others, in seconds."""
        self._where[node].tell(Mark(node, mark))
        heard = self.heard[mark]
        what = "all to hear of one fact"
        await self._wait(lambda: 0.0 if len(heard) == count else None, what)
        return [after_s for other, after_s in heard.items() if other != node]

    async def measure(self) -> list[Measured]:
        """What has passed so far, of each process."""
        return list(await asyncio.gather(*(held.measure() for held in self._held)))

    async def close(self) -> None:
        """End them all."""
        await asyncio.gather(*(held.close() for held in self._held))

    async def _start_one(self) -> Held:
        held = await Held.start(self._folder, self._take)
        self._held.append(held)
        return held

    async def _wait(self, look: Callable[[], float | None], what: str) -> float:
        try:
            async with asyncio.timeout(PATIENCE_S):
                while (found := look()) is None:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise Overdue(f"{what}: not within {PATIENCE_S:g} s; {self._stand()}") from None
        return found

    def _stand(self) -> str:
        """What nodes see last, where that differs."""
        last = {str(msgspec.to_builtins(seen[-1]) | {"node": 0, "at": 0}) for seen in self.timelines.values()}
        return "; ".join(sorted(last)[:4])

    def _take(self, report: Saw | Heard) -> None:
        match report:
            case Saw():
                self.timelines[report.node].append(report)
            case Heard():
                self.heard[report.mark][report.node] = report.after_s
        self._news.set()


@asynccontextmanager
async def fleet(folder: Path) -> AsyncIterator[Fleet]:
    """One that is ended whatever happens."""
    opened = Fleet(folder)
    try:
        yield opened
    finally:
        await opened.close()
