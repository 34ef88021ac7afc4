"""Does the faults of a scenario: finds whom each hits, breaks it, and undoes it in time."""

import asyncio
import signal
from collections.abc import Iterator, Sequence

from scripts.fault_runs.care import views
from scripts.fault_runs.checker import LOADING
from scripts.fault_runs.cluster import Cluster, Node
from scripts.fault_runs.history import (
    Accepted,
    Action,
    GaveUp,
    Healed,
    History,
    InstanceSeen,
    Piece,
    RankSeen,
    Struck,
)
from scripts.fault_runs.recorder import Recorder
from scripts.fault_runs.rest import coordinators, instances
from scripts.fault_runs.scenarios import Fault, Moment, Target

FEW_PIECES = 20
MANY_PIECES = 200
"""So late in the decode a cancel is not waited for any more."""


class Striker:
    """The faults of one run."""

    def __init__(self, cluster: Cluster, recorder: Recorder, model: str, intake: str) -> None:
        self._cluster = cluster
        self._recorder = recorder
        self._model = model
        self._intake = intake
        """The node that takes the first request."""

    async def strike(self, faults: Sequence[Fault], group: asyncio.TaskGroup) -> set[str]:
        """Do them all, one right after the other; what heals is healed by tasks of the group.

        Returns the nodes that hang for good.
        """
        placed = self._placed()
        chosen: list[Node] = []
        for fault in faults:
            chosen.append(self._find(fault.target, placed, chosen))
        for fault, node in zip(faults, chosen, strict=True):
            self._recorder.add(self._struck(fault, node, placed))
            await self._break(fault.action, node)
            if fault.heal_after_s is not None:
                group.create_task(self._heal(fault.action, node, fault.heal_after_s))
        return {
            node.name
            for fault, node in zip(faults, chosen, strict=True)
            if fault.action is Action.STOP_NODE and fault.heal_after_s is None
        }

    def _placed(self) -> InstanceSeen | None:
        """The instance in its latest epoch."""
        found = (each for seen in views(self._cluster).values() for each in instances(seen, self._model))
        return max(found, key=lambda seen: seen.epoch, default=None)

    def _find(self, target: Target, placed: InstanceSeen | None, taken: Sequence[Node]) -> Node:
        """The node that the target is, or the next best that is not struck already."""
        alive = {node.name: node for node in self._cluster.live if node not in taken}
        return next(alive[name] for name in (*self._candidates(target, placed), *alive) if name in alive)

    def _candidates(self, target: Target, placed: InstanceSeen | None) -> Iterator[str]:
        ranks = placed.ranks if placed is not None else ()
        match target:
            case Target.FIRST:
                yield from ranks
            case Target.MIDDLE:
                yield from ranks[len(ranks) // 2 :]
            case Target.LAST:
                yield from reversed(ranks)
            case Target.COORDINATOR:
                for seen in views(self._cluster).values():
                    yield from sorted(coordinators(seen))
            case Target.INTAKE:
                yield self._intake

    def _struck(self, fault: Fault, node: Node, placed: InstanceSeen | None) -> Struck:
        ranks = placed.ranks if placed is not None else ()
        return Struck(
            at_s=self._recorder.now_s,
            action=fault.action,
            node=node.name,
            why=fault.target,
            instance=placed.instance if placed is not None else "",
            epoch=placed.epoch if placed is not None else 0,
            ranks=tuple(rank for rank, name in enumerate(ranks) if name == node.name),
        )

    async def _break(self, action: Action, node: Node) -> None:
        match action:
            case Action.KILL_NODE:
                await node.kill()
            case Action.KILL_ENGINE:
                node.signal_engines(signal.SIGKILL)
            case Action.STOP_NODE:
                node.signal_all(signal.SIGSTOP)
            case Action.STOP_ENGINE:
                node.signal_engines(signal.SIGSTOP)
            case Action.CUT_LINK:
                self._cluster.cut(node)

    async def _heal(self, action: Action, node: Node, after_s: float) -> None:
        await asyncio.sleep(after_s)
        self._recorder.add(Healed(at_s=self._recorder.now_s, action=action, node=node.name))
        match action:
            case Action.KILL_NODE:
                await self._cluster.start_again(node)
            case Action.STOP_NODE:
                node.signal_all(signal.SIGCONT)
            case Action.STOP_ENGINE:
                node.signal_engines(signal.SIGCONT)
            case Action.CUT_LINK:
                self._cluster.mend(node)
            case Action.KILL_ENGINE:
                """Its node has started another long ago."""


def reached(moment: Moment, history: History) -> bool:
    """Whether the run is where the fault is to come."""
    pieces = sum(isinstance(event, Piece) for event in history)
    match moment:
        case Moment.LOAD:
            return any(
                isinstance(event, InstanceSeen | RankSeen) and event.phase in LOADING for event in history
            )
        case Moment.PREFILL:
            return any(isinstance(event, Accepted) for event in history)
        case Moment.DECODE:
            return pieces >= FEW_PIECES
        case Moment.CANCEL:
            return any(isinstance(event, GaveUp) for event in history) or pieces >= MANY_PIECES
