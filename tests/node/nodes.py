"""Whole nodes for tests: in this process, where actors can be reached, or in one of their own."""

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import aiohttp
import psutil

from actors.downloader import EXAMINED
from actors.gateway import View
from actors.running.watchdog import Deadlines
from bus.messages.base import ModelId, RequestId
from bus.messages.engine import Phase
from bus.messages.facts import Fact, InstanceFact, RequestFact
from bus.messages.generation import Sampling, Stopping, TextPrompt
from bus.messages.request import Chunk, Completed, Failed, Order, RequestEvent, Waiting
from exo_actors.node import Node
from exo_actors.settings import Settings, read
from host import speed

ROOT = Path(__file__).parents[2]
LEARNT = ".learnt"
"""Beside the models: what nodes found out about them and the machine."""
MOMENTS_S = 60.0
"""For what takes a moment, on a machine that is busy with other things."""

TRIES = 5
"""How often something is asked for that a test means to catch in its middle."""

T = TypeVar("T", bound=Fact)


def settings(data_dir: Path, models_dir: Path, *models: str) -> Settings:
    """Of a node that is alone: it looks for no others, such as those of tests that run beside it."""
    arguments = ["--port", "0", "--data-dir", str(data_dir), "--models-dir", str(models_dir)]
    arguments += ["--offline", "--no-mdns"]
    for model in models:
        arguments += ["--model", model]
    return read(arguments, {})


@asynccontextmanager
async def running(settings: Settings, deadlines: Deadlines | None = None) -> AsyncIterator[Node]:
    """A node in this process, on the running loop."""
    learnt = settings.models_dirs[0] / LEARNT
    _copy(learnt, settings.data_dir)
    node = Node(settings, deadlines)
    await node.start()
    try:
        yield node
    finally:
        await node.stop()
        _copy(settings.data_dir, learnt)


def _copy(known: Path, target: Path) -> None:
    """What a node finds out once about a machine and its models takes seconds: the next one need not."""
    for name in (EXAMINED, speed.FILE):
        if (known / name).exists():
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(known / name, target)


async def until(view: View, kind: type[T], holds: Callable[[T], bool]) -> T:
    """Wait for a fact of a kind that holds."""
    changes = view.changes()
    for fact in view.facts().values():
        if isinstance(fact, kind) and holds(fact):
            return fact
    async with asyncio.timeout(MOMENTS_S):
        async for _, changed in changes:
            if isinstance(changed, kind) and holds(changed):
                return changed
    raise AssertionError("a view's changes never end")


async def until_withdrawn(view: View, key: str) -> None:
    """Wait until nobody claims a fact any more."""
    changes = view.changes()
    async with asyncio.timeout(MOMENTS_S):
        while key in view.facts():
            await anext(aiter(changes))


async def until_nobody_asks(view: View) -> None:
    """Wait until there is no request any more."""
    while key := next((key for key in view.facts() if key.startswith("request/")), None):
        await until_withdrawn(view, key)


async def ready(node: Node, model: str) -> InstanceFact:
    return await until(
        node.bus.view, InstanceFact, lambda fact: fact.model == model and fact.phase is Phase.READY
    )


async def idle(node: Node, model: str) -> InstanceFact:
    """Wait until the engine says that it holds nothing for anybody."""
    return await until(node.bus.view, InstanceFact, lambda fact: fact.model == model and is_idle(fact))


def is_idle(fact: InstanceFact) -> bool:
    busy = fact.running + fact.prefilling + fact.waiting + fact.kv_bytes - fact.prefix_bytes
    return fact.phase is Phase.READY and busy == 0


def order(name: str, model: str, prompt: str = "Hello", tokens: int | None = 8, n: int = 1) -> Order:
    """Greedy, and of a length that does not hang on the model's mood."""
    return Order(
        request=RequestId(name),
        model=ModelId(model),
        prompts=(TextPrompt(text=prompt),),
        n=n,
        sampling=Sampling(temperature=0.0),
        stopping=Stopping(max_tokens=tokens, ignore_eos=True),
    )


async def events(node: Node, order: Order) -> list[RequestEvent]:
    async with node.gateway.open(order) as generation:
        return [event async for event in generation]


def text(events: list[RequestEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Chunk))


async def answer(node: Node, order: Order) -> str:
    """The whole text of a request that must end well."""
    seen = await events(node, order)
    assert isinstance(seen[-1], Completed), seen[-1]
    return text(seen)


async def failure(node: Node, order: Order) -> Failed:
    """The end of a request that must end badly."""
    last = (await events(node, order))[-1]
    assert isinstance(last, Failed), last
    return last


async def decoding(node: Node, name: str) -> RequestFact:
    """Wait until a request has tokens."""
    return await until(node.bus.view, RequestFact, lambda fact: fact.id == name and fact.generated_tokens > 0)


async def interrupted(
    node: Node, orders: Sequence[Order], after: int, loss: Callable[[], None]
) -> list[list[RequestEvent]]:
    """Every event of requests that lose their engine when each has so many tokens.

    On a machine that is busy with other things, one may have had its end by then: all are asked again.
    """
    for _ in range(TRIES):
        seen = await _interrupted(node, orders, after, loss)
        if all(map(paused, seen)):
            return seen
    raise AssertionError("one of them never had to wait: nothing was lost")


async def _interrupted(
    node: Node, orders: Sequence[Order], after: int, loss: Callable[[], None]
) -> list[list[RequestEvent]]:
    untold = set(range(len(orders)))

    async def follow(number: int, order: Order) -> list[RequestEvent]:
        seen: list[RequestEvent] = []
        async with node.gateway.open(order) as generation:
            async for event in generation:
                seen.append(event)
                told = isinstance(event, Chunk) and event.generated >= after
                if number in untold and (told or isinstance(event, Completed)):
                    untold.remove(number)
                    if not untold:
                        loss()
        return seen

    return await asyncio.gather(*(follow(number, order) for number, order in enumerate(orders)))


def paused(events: Sequence[RequestEvent]) -> bool:
    """Whether it had to wait after something was told."""
    kinds = [type(event) for event in events]
    return Waiting in kinds[kinds.index(Chunk) :]


def engines(of: psutil.Process | None = None) -> list[psutil.Process]:
    """The engine processes of a node."""
    return [child for child in (of or psutil.Process()).children() if _is_engine(child)]


def _is_engine(process: psutil.Process) -> bool:
    try:
        return "engine" in process.cmdline()
    except psutil.NoSuchProcess:  # it has ended, whether or not somebody has taken note of it
        return False


@asynccontextmanager
async def process(*arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """`python -m exo_actors` and its address; killed at the end if it still runs."""
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "exo_actors",
        "--port",
        "0",
        *arguments,
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert running.stdout is not None
    try:
        async with asyncio.timeout(MOMENTS_S):
            url = (await running.stdout.readline()).decode().strip()
        yield running, url
    finally:
        if running.returncode is None:
            running.send_signal(signal.SIGKILL)
        await running.communicate()


async def serving(url: str, model: str) -> None:
    """Wait until a node answers with that model."""
    body = {"model": model, "prompt": "Hello", "max_tokens": 1}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/v1/completions", json=body) as response,
    ):
        assert response.status == 200, await response.text()


async def gone(processes: list[psutil.Process]) -> None:
    """Wait until these have ended, whether or not somebody has taken note of it."""
    async with asyncio.timeout(MOMENTS_S):
        await asyncio.to_thread(_watch, processes, time.monotonic() + MOMENTS_S)


def _watch(processes: list[psutil.Process], deadline: float) -> None:
    while any(_runs(process) for process in processes) and time.monotonic() < deadline:
        time.sleep(0.005)  # nothing tells when somebody else's child has ended


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
