"""What a server holds, looked at from outside: KV cache and requests as its facts tell, and its memory."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import aiohttp
import msgspec
import psutil

LOOK_S = 0.4
REST_S = 20.0
"""How long a server may take to be at rest when its last request has ended."""
SETTLE_S = 1.2
"""Beats come twice a second: what is told after so long is of now."""
AGAIN = ("waiting again for memory", "waits for memory again")
"""The reasons of requests that were put off: after their first tokens, and before."""
LEAK_BYTES = 4 << 20
"""MLX may hold so much more at rest, beside weights and kept prefixes, than it did before."""
GROWTH_BYTES = 96 << 20
"""A process may be so much larger at the end than when it had done everything once, beside its KV cache:
allocators keep what was freed, each thread its own."""


class Instance(msgspec.Struct, frozen=True):
    """As in InstanceFact."""

    id: str = ""
    epoch: int = 0
    phase: str = ""
    running: int = 0
    prefilling: int = 0
    waiting: int = 0
    kv_bytes: int = 0
    kv_limit_bytes: int = 0
    prefix_bytes: int = 0
    active_bytes: int = 0
    cached_bytes: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    preempted: int = 0
    restarts: int = 0

    @property
    def sequences(self) -> int:
        return self.running + self.prefilling + self.waiting

    @property
    def other_bytes(self) -> int:
        """What MLX holds beside KV cache."""
        return self.active_bytes - self.kv_bytes


class _Rank(msgspec.Struct, frozen=True):
    instance: str
    epoch: int
    kv_bytes: int = 0
    prefix_bytes: int = 0


class _Request(msgspec.Struct, frozen=True):
    id: str
    reason: str = ""


class _Cluster(msgspec.Struct, frozen=True):
    instances: tuple[Instance, ...] = ()
    ranks: tuple[_Rank, ...] = ()
    requests: tuple[_Request, ...] = ()


@dataclass(frozen=True, slots=True)
class Held:
    """At one moment. Bytes."""

    instance: Instance
    rank_bytes: tuple[int, ...]
    """Of each further rank: KV cache beside kept prefixes."""
    requests: int
    rss: dict[str, int]
    """Of each process."""
    put_off: frozenset[str] = frozenset()
    """Requests that had begun, and wait to go on."""

    @property
    def rss_bytes(self) -> int:
        return sum(self.rss.values())


@dataclass
class Watch:
    """What was seen while traffic ran."""

    most_kv: int = 0
    most_used: int = 0
    """KV cache beside kept prefixes."""
    most_rss: int = 0
    most_waiting: int = 0
    waiting: int = 0
    """Just now."""
    least_limit: int = 0
    most_limit: int = 0
    put_off: set[str] = field(default_factory=set)
    """Requests that were seen to be, among those that were."""
    over: list[str] = field(default_factory=list)
    looks: int = 0
    _last: Instance = field(default_factory=Instance)

    def take(self, held: Held) -> None:
        """Note a look."""
        found = held.instance
        self.looks += 1
        self.most_kv = max(self.most_kv, found.kv_bytes)
        self.most_used = max(self.most_used, found.kv_bytes - found.prefix_bytes)
        self.most_rss = max(self.most_rss, held.rss_bytes)
        self.most_waiting = max(self.most_waiting, found.waiting)
        self.waiting = found.waiting
        self.put_off |= held.put_off
        limit, told_before = found.kv_limit_bytes, found.kv_limit_bytes == self._last.kv_limit_bytes
        if limit:
            self.least_limit = min(self.least_limit or limit, limit)
            self.most_limit = max(self.most_limit, limit)
        if limit and told_before and found.kv_bytes > limit:  # else it is about to let go what is too much
            self.over.append(f"{found.kv_bytes} bytes of KV cache of {limit} allowed")
        self._last = found


@dataclass(frozen=True, slots=True)
class Looker:
    """Looks at one instance."""

    session: aiohttp.ClientSession
    url: str
    instance: str
    pids: tuple[int, ...]
    """Of its nodes."""

    async def look(self) -> Held:
        """Now. Raises aiohttp.ClientError, or LookupError when it is placed nowhere."""
        async with self.session.get(f"{self.url}/v1/cluster") as response:
            cluster = msgspec.json.decode(await response.read(), type=_Cluster)
        found = [each for each in cluster.instances if each.id == self.instance]
        if not found:
            raise LookupError("the model is placed nowhere any more")
        last = max(found, key=lambda each: each.epoch)
        ranks = (each for each in cluster.ranks if (each.instance, each.epoch) == (last.id, last.epoch))
        beside = tuple(rank.kv_bytes - rank.prefix_bytes for rank in ranks)
        put_off = frozenset(each.id for each in cluster.requests if each.reason.startswith(AGAIN))
        return Held(last, beside, len(cluster.requests), dict(_rss(self.pids)), put_off)

    async def follow(self, watch: Watch) -> None:
        """Look again and again, until cancelled."""
        while True:
            with suppress(aiohttp.ClientError, LookupError, TimeoutError):
                watch.take(await self.look())
            await asyncio.sleep(LOOK_S)

    async def at_rest(self) -> tuple[Held, str]:
        """What is held once nothing is under way, and what still is after REST_S; empty: nothing."""
        loop = asyncio.get_running_loop()
        until = loop.time() + REST_S
        while True:
            await asyncio.sleep(SETTLE_S)
            held = await self.look()
            reason = busy(held)
            if not reason or loop.time() > until:
                return held, reason


def busy(held: Held) -> str:
    """What is held for somebody: pure; empty: nothing."""
    found = held.instance
    if found.sequences:
        return f"{found.running} sequences run, {found.prefilling} are prefilled, {found.waiting} wait"
    if found.kv_bytes != found.prefix_bytes:
        return f"{found.kv_bytes} bytes of KV cache are held, {found.prefix_bytes} of them kept prefixes"
    if any(held.rank_bytes):
        return f"further ranks hold {held.rank_bytes} bytes of KV cache beside kept prefixes"
    return f"{held.requests} requests are known still" if held.requests else ""


def leaks(before: Held, after: Held) -> list[str]:
    """What has grown between two rests more than it may: pure."""
    return list(_leaks(before, after))


def _leaks(before: Held, after: Held) -> Iterator[str]:
    more = after.instance.other_bytes - before.instance.other_bytes
    if more > LEAK_BYTES:
        yield f"MLX holds {more} bytes more beside KV cache than at the baseline"
    room = GROWTH_BYTES + after.instance.kv_limit_bytes
    for name, size in after.rss.items():
        if name in before.rss and size - before.rss[name] > room:
            yield f"process {name} has grown from {before.rss[name]} to {size} bytes, {room} more are allowed"
    if after.instance.restarts:
        yield f"the engine was started again {after.instance.restarts} times"
    if after.instance.epoch != before.instance.epoch:
        yield f"the instance was placed anew {after.instance.epoch - before.instance.epoch} times"


def _rss(pids: tuple[int, ...]) -> Iterator[tuple[str, int]]:
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
                role = "engine" if "engine" in process.cmdline() else "node"
                yield f"{role} {process.pid}", process.memory_info().rss
