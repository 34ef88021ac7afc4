"""Who serves in a soak: nodes with the model placed as the plan has it, and one that works alone."""

import asyncio
import json
import re
import secrets
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import msgspec

from bus.messages.placement import Sharding
from scripts.benchmark.contenders import ROOT, Contender, Server, clean_environment, free_port, running
from scripts.benchmark.process import Process
from scripts.fault_runs.stream import LONGEST_LINE
from scripts.soaking.errands import Key

NAMES = ("first", "second")
READY_S = 120.0
ASK_AGAIN_S = 0.2
LOG_LINES = 100_000
PLAIN = re.compile(r"^(\d\d:\d\d:\d\d (INFO|DEBUG) |http://|Open it in a browser)")


class Refused(Exception):
    """The model could not be placed; says why."""


class Placed(msgspec.Struct, frozen=True):
    """As in InstanceBody."""

    id: str
    phase: str = ""
    reason: str = ""


class _List(msgspec.Struct, frozen=True):
    data: tuple[Placed, ...] = ()


@dataclass(frozen=True, slots=True)
class Nodes:
    """As many nodes as there are ranks, with nothing placed on them yet."""

    ranks: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
    name: str = "exo_actors"

    def start(self, model: Path, scratch: Path, port: int) -> Server:
        """See Contender. Clients ask the first one."""
        key, bus = secrets.token_hex(), free_port()
        keys = scratch / "keys.json"
        keys.write_text(json.dumps(Key.file()))
        started: list[Process] = []
        for number in range(self.ranks):
            flags = ["--peer", f"127.0.0.1:{bus}"] if number else ["--bus-port", str(bus)]
            flags += ["--port", str(0 if number else port), "--cluster-key", key, "--api-keys", str(keys)]
            started.append(self._node(NAMES[number], model, scratch, flags))
        return Server(self.name, f"http://127.0.0.1:{port}", model.name, started[0], tuple(started[1:]))

    def _node(self, name: str, model: Path, scratch: Path, flags: list[str]) -> Process:
        arguments = [sys.executable, "-m", "exo_actors", "--name", name, *flags, "--no-mdns", "--no-model"]
        arguments += ["--no-auto-place", "--no-page", "--offline", "--data-dir", str(scratch / name)]
        arguments += ["--models-dir", str(model.parent)]
        environment = {**clean_environment(), **self.environment}
        return Process(arguments, environment, ROOT, scratch / f"{name}.log")


def wish(model: str, ranks: int, sharding: Sharding, draft: str | None = None) -> dict[str, object]:
    """What to ask `POST /v1/instances` for: pure."""
    several: dict[str, object] = {"sharding": sharding.value} if ranks > 1 else {}
    guesses: dict[str, object] = {"draft": draft} if draft else {}
    return {"model": model, "nodes": NAMES[:ranks], **several, **guesses}


@contextmanager
def serving(contender: Contender, model: Path, scratch: Path) -> Iterator[Server]:
    """A started server, gone when the block is left; with its last words where something failed."""
    with running(contender, model, scratch) as server:
        try:
            yield server
            for process in server.processes:
                process.check()
        except BaseException:
            for process in server.processes:
                print(process.last_words(), file=sys.stderr, flush=True)
            raise


def warnings(server: Server) -> list[str]:
    """What it warned of in its log, and what went wrong there."""
    words = (process.last_words(lines=LOG_LINES) for process in server.processes)
    return [line for text in words for line in text.splitlines() if not PLAIN.search(line)]


@asynccontextmanager
async def session_with() -> AsyncIterator[aiohttp.ClientSession]:
    """A session of clients, each request of which has a connection of its own."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, read_bufsize=LONGEST_LINE, headers=Key.ORDINARY.headers
    ) as session:
        yield session


async def until_ready(session: aiohttp.ClientSession, server: Server) -> None:
    """Until it answers at once. Raises TimeoutError, ProcessDied."""
    async with asyncio.timeout(READY_S):
        while not await _is_ready(session, server.url):
            for process in server.processes:
                process.check()
            await asyncio.sleep(ASK_AGAIN_S)


async def _is_ready(session: aiohttp.ClientSession, url: str) -> bool:
    with suppress(aiohttp.ClientError):
        async with session.get(f"{url}/ready") as response:
            return response.status == 200
    return False


async def place(session: aiohttp.ClientSession, server: Server, body: Mapping[str, object]) -> str:
    """Have a model placed, once its nodes know each other, and wait until it is ready; returns the
    instance's id. Raises Refused, ProcessDied."""
    refusal = "nobody answered"
    with suppress(TimeoutError):
        async with asyncio.timeout(READY_S):
            while True:
                for process in server.processes:
                    process.check()
                created, refusal = await _create(session, server.url, body)
                if created is not None:
                    await ready(session, server.url, created)
                    return created
                await asyncio.sleep(ASK_AGAIN_S)
    raise Refused(f"{body['model']} was not ready in {READY_S:.0f} s: {refusal}")


async def ready(session: aiohttp.ClientSession, url: str, instance: str) -> None:
    """Wait until an instance is. Raises Refused where it has failed."""
    while (found := await _look(session, url, instance)) is None or found.phase != "ready":
        if found is not None and found.phase == "failed":
            raise Refused(found.reason)
        await asyncio.sleep(ASK_AGAIN_S)


async def withdraw(session: aiohttp.ClientSession, url: str, instance: str) -> None:
    """Have an instance run no more, and wait until nothing of it is left."""
    async with session.delete(f"{url}/v1/instances/{instance}") as response:
        if response.status != 200:
            raise Refused(f"{response.status} {await response.text()}")
    while True:
        if await _look(session, url, instance) is None:
            return
        await asyncio.sleep(ASK_AGAIN_S)


async def _create(
    session: aiohttp.ClientSession, url: str, body: Mapping[str, object]
) -> tuple[str | None, str]:
    """The id of what was declared, or why nothing was."""
    with suppress(aiohttp.ClientError):
        async with session.post(f"{url}/v1/instances", json=body) as response:
            text = await response.read()
            if response.status == 201:
                return msgspec.json.decode(text, type=_List).data[0].id, ""
            return None, text.decode(errors="replace")
    return None, "nobody answered"


async def _look(session: aiohttp.ClientSession, url: str, instance: str) -> Placed | None:
    """None: there is none of that id."""
    async with session.get(f"{url}/v1/instances/{instance}") as response:
        if response.status == 404:
            return None
        return msgspec.json.decode(await response.read(), type=Placed)
