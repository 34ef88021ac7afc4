"""One soak: users that ask in tides, another model that comes and goes, and the same asked alone."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import aiohttp

from scripts.benchmark import models
from scripts.benchmark.contenders import Contender, Ours, Server
from scripts.soaking.asking import Asking
from scripts.soaking.errands import User
from scripts.soaking.findings import Findings, Plan
from scripts.soaking.holding import LOOK_S, Looker, leaks
from scripts.soaking.models import make, make_draft, make_neighbour
from scripts.soaking.neighbour import Neighbour
from scripts.soaking.sameness import Sample, Verdict, chosen, compare, sample_of
from scripts.soaking.serving import NAMES, Nodes, place, serving, session_with, until_ready, warnings, wish

SMALLEST = 24 << 20
"""Bytes of KV cache that a budget has at least: half of it, which is left while another model is there, has
room for the longest errand, old and new array of a cache that grows included."""
PATIENCE_S = 300.0
"""Longer than anybody waits for an answer here, in line and all."""
PAUSE_S = 0.3
FLOOD_S = 30.0
"""For so long all users ask."""
EBB_S = 15.0
"""For so long only a few do, once nobody waits any more: who has little priority has had a turn by then, and
tokens are guessed while few streams run."""
FEW = 2
HOPELESS = 100
"""Broken promises after which nobody asks any more."""
ERROR = re.compile(r"^\d\d:\d\d:\d\d (ERROR|CRITICAL) ")


@dataclass(frozen=True, slots=True)
class _Stage:
    """Where users ask."""

    plan: Plan
    found: Findings
    session: aiohttp.ClientSession
    url: str
    users: Sequence[User]
    looker: Looker
    samples: list[Sample] = field(default_factory=list)
    flood: asyncio.Event = field(default_factory=asyncio.Event)
    """All users ask."""


async def soak(plan: Plan, scratch: Path) -> Findings:
    """Run it all. Raises ProcessDied, Refused, OSError or TimeoutError when a server can't be had."""
    model = make(scratch / "models")
    draft = make_draft(model) if plan.draft else None
    body = wish(model.name, plan.ranks, plan.sharding, draft.name if draft else None)
    neighbour = make_neighbour(model.parent).name
    words = models.words(model)
    found = Findings()
    found.budget_bytes = plan.kv_bytes or await _half(plan, found, model, body, words, scratch / "unbounded")
    environment = {"EXO_KV_MEMORY": str(found.budget_bytes // plan.ranks)}
    with serving(Nodes(plan.ranks, environment), model, scratch / "loaded") as server:
        async with _staged(plan, found, server, body, words) as stage:
            tell(f"{found.budget_bytes} bytes of KV cache of {found.wanted_bytes} that are wanted")
            await _traffic(stage, server, neighbour)
        found.warnings += warnings(server)
        found.wrong += [f"the server's log: {line}" for line in found.warnings if ERROR.search(line)]
    tell(f"{sum(found.ends.values())} requests; asking {min(plan.again, len(stage.samples))} again, alone")
    with serving(_alone(), model, scratch / "alone") as server:
        async with session_with() as session:
            await until_ready(session, server)
            await _repeat(stage, server, session)
    return found


async def _half(
    plan: Plan, found: Findings, model: Path, body: dict[str, object], words: Sequence[str], scratch: Path
) -> int:
    """The budget that is to be tried, once it is known what the traffic takes without one, kept prefixes not
    counted."""
    trial = Findings()
    with serving(Nodes(plan.ranks), model, scratch) as server:
        async with _staged(plan, trial, server, body, words) as stage, _followed(stage):
            await _phase(stage, plan.warm_up_s)
    # Of two ranks, each has as much as is seen of the first.
    found.wanted_bytes = trial.watch.most_used * plan.ranks
    return max(SMALLEST, int(plan.budget * found.wanted_bytes))


def _alone() -> Contender:
    """Whatever the other one may get wrong with kept prefixes, guesses or memory, this one can't."""
    return Ours(environment={"EXO_NO_PREFIX_CACHE": "1", "EXO_NO_SPECULATION": "1"})


@asynccontextmanager
async def _staged(
    plan: Plan, found: Findings, server: Server, body: dict[str, object], words: Sequence[str]
) -> AsyncIterator[_Stage]:
    """With the model placed, and users who have not asked yet."""
    users = [User(plan.seed, number, words, server.model) for number in range(plan.users)]
    async with session_with() as session:
        instance = await place(session, server, body)
        looker = Looker(session, server.url, instance, tuple(each.pid for each in server.processes))
        yield _Stage(plan, found, session, server.url, users, looker)


@asynccontextmanager
async def _followed(stage: _Stage) -> AsyncIterator[None]:
    watching = asyncio.create_task(stage.looker.follow(stage.found.watch))
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def _traffic(stage: _Stage, server: Server, neighbour: str) -> None:
    plan, found = stage.plan, stage.found
    async with _followed(stage):
        await _phase(stage, plan.warm_up_s)
        found.baseline, late = await stage.looker.at_rest()
        found.wrong += [f"at the baseline: {late}"] if late else []
        tell(f"baseline after {plan.warm_up_s:.0f} s: {found.baseline.instance}")
        async with _visited(stage, neighbour):
            await _phase(stage, plan.seconds - plan.warm_up_s)
        found.end, late = await stage.looker.at_rest()
        found.wrong += [f"in the end: {late}"] if late else []
        found.wrong += leaks(found.baseline, found.end) + found.watch.over[:3]


@asynccontextmanager
async def _visited(stage: _Stage, model: str) -> AsyncIterator[None]:
    """While another model comes and goes."""
    names, random = NAMES[: stage.plan.ranks], Random(f"{stage.plan.seed}/neighbour")
    each = stage.found.budget_bytes // stage.plan.ranks
    neighbour = Neighbour(stage.session, stage.url, model, names, each, random)
    over = asyncio.Event()
    coming = asyncio.create_task(neighbour.come_and_go(over))
    try:
        yield
    finally:
        over.set()
        await coming
        stage.found.visits += neighbour.visits
        stage.found.wrong += neighbour.wrong


async def _phase(stage: _Stage, seconds: float) -> None:
    """All users ask for so long; returns when the last has its answer."""
    until_s = asyncio.get_running_loop().time() + seconds
    turning = asyncio.create_task(_turn(stage))
    try:
        async with asyncio.TaskGroup() as group:
            for number, user in enumerate(stage.users):
                group.create_task(_live(stage, number, user, until_s))
    finally:
        turning.cancel()
        await asyncio.gather(turning, return_exceptions=True)


async def _turn(stage: _Stage) -> None:
    """Of the tide, until cancelled."""
    while True:
        stage.flood.set()
        await asyncio.sleep(FLOOD_S)
        stage.flood.clear()
        waiting = True
        while waiting:
            await asyncio.sleep(LOOK_S)
            waiting = stage.found.watch.waiting > 0
        await asyncio.sleep(EBB_S)


async def _live(stage: _Stage, number: int, user: User, until_s: float) -> None:
    loop, random, found = asyncio.get_running_loop(), Random(number), stage.found
    while len(found.wrong) < HOPELESS:
        if number >= FEW and not await _within(stage.flood, until_s - loop.time()):
            return
        if loop.time() >= until_s:
            return
        errand = user.next()
        seen = await Asking(stage.session, stage.url, errand).run(PATIENCE_S)
        before = len(found.wrong)
        found.take(errand, seen)
        for what in found.wrong[before:]:
            tell(what)
        user.heard(errand, seen.answer(0).text if seen.is_whole else "")
        if sample := sample_of(errand, seen):
            stage.samples.append(sample)
        await asyncio.sleep(random.random() * PAUSE_S)


async def _within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for it; False: it did not come in time."""
    try:
        await asyncio.wait_for(event.wait(), max(seconds, 0.0))
    except TimeoutError:
        return False
    return True


async def _repeat(stage: _Stage, server: Server, session: aiohttp.ClientSession) -> None:
    plan, found = stage.plan, stage.found
    put_off = found.watch.put_off
    for sample in chosen(stage.samples, put_off, plan.again, Random(plan.seed)):
        found.put_off_again += sample.request in put_off
        verdict, where = await compare(session, server.url, sample)
        found.verdicts[verdict] += 1
        if verdict is Verdict.OTHER:
            errand, after = sample.errand, ", put off," if sample.request in put_off else ""
            found.wrong.append(
                f"{errand.name} ({errand.kind}){after} has another answer when it is alone: {where}"
            )
            tell(found.wrong[-1])


def tell(line: str) -> None:
    """How far it is, on standard error."""
    print(line, file=sys.stderr, flush=True)
