"""Follows a node's `/v1/cluster/events` and notes what that node sees of the cluster."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import aiohttp
import msgspec

from scripts.fault_runs.history import (
    CoordinatorSeen,
    DeclaredSeen,
    InstanceSeen,
    MemberSeen,
    RankSeen,
    Seen,
    key_of,
)
from scripts.fault_runs.recorder import Recorder
from scripts.fault_runs.stream import LONGEST_LINE, events

RETRY_S = 0.1

Naming = Callable[[str], str]
"""From a node's id to what the run calls it."""


class _Node(msgspec.Struct):
    id: str


class _Instance(msgspec.Struct):
    id: str
    epoch: int
    model: str
    phase: str
    reason: str = ""
    nodes: tuple[str, ...] = ()
    sharding: str = ""
    progress: float | None = None
    running: int = 0
    prefilling: int = 0
    waiting: int = 0
    kv_bytes: int = 0
    prefix_bytes: int = 0
    """Of kv_bytes: kept for later prompts, and held for nobody."""


class _Rank(msgspec.Struct):
    instance: str
    epoch: int
    rank: int
    node: str
    phase: str
    reason: str = ""
    progress: float | None = None
    kv_bytes: int = 0
    prefix_bytes: int = 0
    """Of kv_bytes: kept for later prompts, and held for nobody."""


class _Term(msgspec.Struct):
    number: int = 0
    node: str = ""


class _Coordinator(msgspec.Struct):
    node: str
    term: _Term


class _Stage(msgspec.Struct):
    first: int
    end: int
    nodes: tuple[str, ...]


class _Plan(msgspec.Struct):
    id: str
    epoch: int
    stages: tuple[_Stage, ...] = ()


class _Declared(msgspec.Struct):
    instance: _Plan
    term: _Term
    reason: str = ""
    withdrawn: bool = False


class _Change(msgspec.Struct):
    key: str
    value: msgspec.Raw = msgspec.Raw(b"null")


LISTS = {
    "nodes": "node",
    "instances": "instance",
    "ranks": "rank",
    "declared": "declared",
    "coordinators": "coordinator",
}
"""Where a snapshot has the facts of each kind."""


class Watcher:
    """One node's view, kept up to date while `follow` runs."""

    def __init__(self, by: str, naming: Naming, recorder: Recorder) -> None:
        self.by = by
        self._naming = naming
        self._recorder = recorder
        self._seen: dict[tuple[str, ...], Seen] = {}
        self.connected = False

    @property
    def seen(self) -> list[Seen]:
        """What the node sees now, as far as it could tell."""
        return list(self._seen.values())

    def repeat(self) -> None:
        """Note once more all that is seen: a new run has begun."""
        for seen in self._seen.values():
            self._recorder.add(msgspec.structs.replace(seen, at_s=self._recorder.now_s))

    def forget(self) -> None:
        """The node is no more: the next one begins with nothing seen."""
        self._seen.clear()
        self.connected = False

    async def follow(self, url: str) -> None:
        """Follow the node until cancelled, through all breaks of the connection."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=2.0)
        async with aiohttp.ClientSession(timeout=timeout, read_bufsize=LONGEST_LINE) as session:
            while True:
                with suppress(aiohttp.ClientError, OSError, TimeoutError):
                    async with session.get(f"{url}/v1/cluster/events") as response:
                        async for name, data in events(response):
                            self.take(name, data)
                self.connected = False
                await asyncio.sleep(RETRY_S)

    def take(self, name: str, data: str) -> None:
        """An event of the stream."""
        if name == "snapshot":
            self._snapshot(msgspec.json.decode(data, type=dict[str, msgspec.Raw]))
        elif name == "change":
            self._change(msgspec.json.decode(data, type=_Change))

    def _snapshot(self, facts: dict[str, msgspec.Raw]) -> None:
        found = [
            self._read(kind, value)
            for name, kind in LISTS.items()
            for value in msgspec.json.decode(facts.get(name, b"[]"), type=list[msgspec.Raw])
        ]
        for gone in self._seen.keys() - {key_of(seen) for seen in found}:
            self._note(self._gone(self._seen[gone]))
        for seen in found:
            if self._differs(seen):
                self._note(seen)
        self.connected = True

    def _change(self, change: _Change) -> None:
        kind, _, rest = change.key.partition("/")
        if kind not in LISTS.values():
            return
        if bytes(change.value) != b"null":
            self._note(self._read(kind, change.value, rest))
            return
        before = self._seen.get(self._key(kind, rest))
        if before is not None:
            self._note(self._gone(before))

    def _key(self, kind: str, rest: str) -> tuple[str, ...]:
        match kind:
            case "rank":
                instance, epoch, rank, _ = rest.split("/", 3)
                return (kind, instance, epoch, rank)
            case "instance":
                return (kind, *rest.split("/", 1))
            case "node":
                return ("member", self._naming(rest))
            case "coordinator":
                return (kind, self._naming(rest))
            case "declared":
                holder, _, instance = rest.partition("/")
                return (kind, self._naming(holder), instance)
            case _:
                return (kind, rest)

    def _differs(self, seen: Seen) -> bool:
        before = self._seen.get(key_of(seen))
        return before is None or msgspec.structs.replace(before, at_s=seen.at_s) != seen

    def _gone(self, seen: Seen) -> Seen:
        return msgspec.structs.replace(seen, here=False, at_s=self._recorder.now_s)

    def _note(self, seen: Seen) -> None:
        if seen.here:
            self._seen[key_of(seen)] = seen
        else:
            self._seen.pop(key_of(seen), None)
        self._recorder.add(seen)

    def _read(self, kind: str, value: msgspec.Raw, rest: str = "") -> Seen:
        """`rest`: of its key, which a snapshot does not tell."""
        at_s, name = self._recorder.now_s, self._naming
        match kind:
            case "node":
                node = msgspec.json.decode(value, type=_Node)
                return MemberSeen(at_s=at_s, by=self.by, node=name(node.id))
            case "instance":
                return self._instance(msgspec.json.decode(value, type=_Instance))
            case "rank":
                rank = msgspec.json.decode(value, type=_Rank)
                return RankSeen(
                    at_s=at_s,
                    by=self.by,
                    instance=rank.instance,
                    epoch=rank.epoch,
                    rank=rank.rank,
                    node=name(rank.node),
                    phase=rank.phase,
                    reason=rank.reason,
                    kv_bytes=rank.kv_bytes - rank.prefix_bytes,
                    progress=rank.progress,
                )
            case "declared":
                return self._declared(msgspec.json.decode(value, type=_Declared), rest)
            case "coordinator":
                chair = msgspec.json.decode(value, type=_Coordinator)
                return CoordinatorSeen(
                    at_s=at_s,
                    by=self.by,
                    node=name(chair.node),
                    term=chair.term.number,
                    term_node=name(chair.term.node),
                )
            case _:
                raise ValueError(f"no kind of fact is called {kind!r}")

    def _instance(self, fact: _Instance) -> InstanceSeen:
        return InstanceSeen(
            at_s=self._recorder.now_s,
            by=self.by,
            instance=fact.id,
            model=fact.model,
            epoch=fact.epoch,
            phase=fact.phase,
            reason=fact.reason,
            ranks=tuple(map(self._naming, fact.nodes)),
            sharding=fact.sharding,
            held=fact.running + fact.prefilling + fact.waiting,
            kv_bytes=fact.kv_bytes - fact.prefix_bytes,
            progress=fact.progress,
        )

    def _declared(self, fact: _Declared, rest: str) -> DeclaredSeen:
        plan, (holder, _, _) = fact.instance, rest.partition("/")
        return DeclaredSeen(
            at_s=self._recorder.now_s,
            by=self.by,
            instance=plan.id,
            holder=self._naming(holder) if holder else "",
            epoch=plan.epoch,
            term=fact.term.number,
            term_node=self._naming(fact.term.node),
            ranks=tuple(self._naming(node) for stage in plan.stages for node in stage.nodes),
            layers=tuple((stage.first, stage.end) for stage in plan.stages),
            withdrawn=fact.withdrawn,
            reason=fact.reason,
        )
