"""One soak: users that ask without pause, what a server holds meanwhile, and the same asked alone."""

import asyncio
import contextlib
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import aiohttp

from bus.messages.placement import Sharding
from scripts.benchmark import models
from scripts.benchmark.clusters import TwoNodes
from scripts.benchmark.contenders import Contender, Ours, Server, running
from scripts.benchmark.models import Shape
from scripts.fault_runs.stream import LONGEST_LINE
from scripts.soaking.asking import Asking, Outcome
from scripts.soaking.errands import CONTEXT, Errand, User
from scripts.soaking.holding import Held, Watch, at_rest, follow, leaks
from scripts.soaking.judging import problems
from scripts.soaking.sameness import Sample, Verdict, compare, sample_of

SHAPE = Shape("llama-soak", layers=4, hidden=128, intermediate=352, context=CONTEXT)
SMALLEST = 12 << 20
"""Bytes of KV cache that a budget has at least: room for the longest errand, old and new array of a cache
that grows included."""
READY_S = 120.0
PATIENCE_S = 240.0
"""Longer than anybody waits for an answer here, in line and all."""
PAUSE_S = 0.3
LOG_LINES = 100_000
ERROR = re.compile(r"^\d\d:\d\d:\d\d (ERROR|CRITICAL) ")
PLAIN = re.compile(r"^(\d\d:\d\d:\d\d (INFO|DEBUG) |http://|Open it in a browser)")
WARM_UP = 0.1
"""Of the time: so long traffic runs without a bound, and again before the baseline is looked at; a minute at
most."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run."""

    seconds: float
    seed: int = 1
    users: int = 24
    nodes: int = 1
    again: int = 60
    """Greedy requests that are asked again, alone."""
    budget: float = 0.5
    """Of the KV cache that the same traffic takes where it has no bound, kept prefixes not counted."""
    kv_bytes: int | None = None
    """In place of that share: nothing is tried without a bound."""

    @property
    def warm_up_s(self) -> float:
        return min(60.0, WARM_UP * self.seconds)


@dataclass
class Findings:
    """What came of it."""

    wanted_bytes: int = 0
    budget_bytes: int = 0
    ends: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By kind and end."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    watch: Watch = field(default_factory=Watch)
    baseline: Held | None = None
    end: Held | None = None
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    """Each broken promise."""
    warnings: list[str] = field(default_factory=list)
    """Lines of the server's log."""

    def take(self, errand: Errand, seen: Outcome) -> None:
        """Note how a request ended."""
        self.ends[errand.kind, ending(seen)] += 1
        self.prompt_tokens += seen.prompt_tokens
        self.cached_tokens += seen.cached_tokens
        self.completion_tokens += seen.completion_tokens or 0
        self.wrong += [f"{errand.name} ({errand.kind}): {what}" for what in problems(errand, seen)]


def ending(seen: Outcome) -> str:
    """How a request ended, in a word or two: pure."""
    if seen.overdue:
        return "overdue"
    if seen.left:
        return "left"
    if seen.broken:
        return "broken"
    return seen.code or "error" if seen.error else "answered"


async def soak(plan: Plan, scratch: Path) -> Findings:
    """Run it all. Raises ProcessDied, OSError or TimeoutError when a server can't be had."""
    model = models.make(SHAPE, scratch / "models")
    words = models.words(model)
    found = Findings()
    found.budget_bytes = plan.kv_bytes or await _half(plan, found, model, words, scratch / "unbounded")
    samples: list[Sample] = []
    with serving(_loaded(plan, found.budget_bytes), model, scratch / "loaded") as server:
        async with session_with(server) as session:
            await _traffic(plan, found, server, session, words, samples)
        found.warnings += warnings(server)
        found.wrong += [f"the server's log: {line}" for line in found.warnings if ERROR.search(line)]
    tell(f"{sum(found.ends.values())} requests; asking {min(plan.again, len(samples))} again, alone")
    with serving(_alone(), model, scratch / "alone") as server:
        async with session_with(server) as session:
            await _repeat(plan, found, server, session, samples)
    return found


async def _half(plan: Plan, found: Findings, model: Path, words: Sequence[str], scratch: Path) -> int:
    """The budget that is to be tried, once it is known what the traffic takes without one."""
    with serving(_loaded(plan, None), model, scratch) as server:
        async with session_with(server) as session:
            found.wanted_bytes = await _wanted(plan, server, session, words)
    return max(SMALLEST, int(plan.budget * found.wanted_bytes))


def _loaded(plan: Plan, budget_bytes: int | None) -> Contender:
    environment = {"EXO_KV_MEMORY": str(budget_bytes // plan.nodes)} if budget_bytes else {}
    if plan.nodes == 1:
        return Ours(environment=environment)
    return TwoNodes(Sharding.PIPELINE, ((), ()), environment)


def _alone() -> Contender:
    """Whatever the other one may get wrong with kept prefixes, guesses or memory, this one can't."""
    return Ours(environment={"EXO_NO_PREFIX_CACHE": "1", "EXO_NO_SPECULATION": "1"})


@contextmanager
def serving(contender: Contender, model: Path, scratch: Path) -> Iterator[Server]:
    """A started server, gone when the block is left; with its last words where something failed."""
    with running(contender, model, scratch) as server:
        try:
            yield server
            for process in server.processes:
                process.check()
        except BaseException:
            tell(server.process.last_words())
            raise


def warnings(server: Server) -> list[str]:
    """What it warned of in its log, and what went wrong there."""
    words = (process.last_words(lines=LOG_LINES) for process in server.processes)
    return [line for text in words for line in text.splitlines() if not PLAIN.search(line)]


@asynccontextmanager
async def session_with(server: Server) -> AsyncIterator[aiohttp.ClientSession]:
    """A session of clients, once the server is ready. Raises TimeoutError."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, read_bufsize=LONGEST_LINE
    ) as session:
        async with asyncio.timeout(READY_S):
            while not await _is_ready(session, server):
                server.process.check()
                await asyncio.sleep(0.1)
        yield session


async def _is_ready(session: aiohttp.ClientSession, server: Server) -> bool:
    with contextlib.suppress(aiohttp.ClientError):
        async with session.get(f"{server.url}/ready") as response:
            return response.status == 200
    return False


async def _wanted(plan: Plan, server: Server, session: aiohttp.ClientSession, words: Sequence[str]) -> int:
    """Bytes of KV cache that the traffic takes at most while nothing bounds it, kept prefixes not counted."""
    found = Findings()
    pids = tuple(process.pid for process in server.processes)
    users = [User(plan.seed, number, words, server.model) for number in range(plan.users)]
    async with _followed(found.watch, server, session, pids):
        await _phase(plan.warm_up_s, users, found, server, session, [])
    return found.watch.most_used


@asynccontextmanager
async def _followed(
    watch: Watch, server: Server, session: aiohttp.ClientSession, pids: tuple[int, ...]
) -> AsyncIterator[None]:
    watching = asyncio.create_task(follow(session, server.url, pids, watch))
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def _traffic(
    plan: Plan,
    found: Findings,
    server: Server,
    session: aiohttp.ClientSession,
    words: Sequence[str],
    samples: list[Sample],
) -> None:
    pids = tuple(process.pid for process in server.processes)
    users = [User(plan.seed, number, words, server.model) for number in range(plan.users)]
    async with _followed(found.watch, server, session, pids):
        await _phase(plan.warm_up_s, users, found, server, session, samples)
        found.baseline, late = await at_rest(session, server.url, pids)
        found.wrong += [f"at the baseline: {late}"] if late else []
        tell(f"baseline after {plan.warm_up_s:.0f} s: {found.baseline.instance}")
        await _phase(plan.seconds - plan.warm_up_s, users, found, server, session, samples)
        found.end, late = await at_rest(session, server.url, pids)
        found.wrong += [f"in the end: {late}"] if late else []
        found.wrong += leaks(found.baseline, found.end) + found.watch.over[:3]


async def _phase(
    seconds: float,
    users: Sequence[User],
    found: Findings,
    server: Server,
    session: aiohttp.ClientSession,
    samples: list[Sample],
) -> None:
    """All users ask for so long; returns when the last has its answer."""
    until_s = asyncio.get_running_loop().time() + seconds
    async with asyncio.TaskGroup() as group:
        for number, user in enumerate(users):
            group.create_task(_live(user, Random(number), until_s, found, server, session, samples))


async def _live(
    user: User,
    random: Random,
    until_s: float,
    found: Findings,
    server: Server,
    session: aiohttp.ClientSession,
    samples: list[Sample],
) -> None:
    loop = asyncio.get_running_loop()
    while loop.time() < until_s:
        errand = user.next()
        seen = await Asking(session, server.url, errand).run(PATIENCE_S)
        before = len(found.wrong)
        found.take(errand, seen)
        for what in found.wrong[before:]:
            tell(what)
        user.heard(errand, seen.answer(0).text if seen.is_whole else "")
        if sample := sample_of(errand, seen):
            samples.append(sample)
        await asyncio.sleep(random.random() * PAUSE_S)


async def _repeat(
    plan: Plan, found: Findings, server: Server, session: aiohttp.ClientSession, samples: Sequence[Sample]
) -> None:
    chosen = Random(plan.seed).sample(samples, min(plan.again, len(samples)))
    for sample in chosen:
        verdict, where = await compare(session, server.url, sample)
        found.verdicts[verdict] += 1
        if verdict is Verdict.OTHER:
            errand = sample.errand
            found.wrong.append(f"{errand.name} ({errand.kind}) has another answer when it is alone: {where}")
            tell(found.wrong[-1])


def tell(line: str) -> None:
    """How far it is, on standard error."""
    print(line, file=sys.stderr, flush=True)
