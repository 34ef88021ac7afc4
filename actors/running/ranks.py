"""What the ranks of one epoch say of themselves: when all of them listen, and whether one is lost. Pure."""

from collections.abc import Callable
from dataclasses import dataclass, field

from actors.running.budget import tightest
from bus.messages.base import NodeId
from bus.messages.engine import Connect, Phase
from bus.messages.facts import RankFact
from bus.messages.placement import Instance


@dataclass(slots=True)
class Ranks:
    """The ranks of an instance as one of them, `own`, sees them. Who was heard of and is gone is lost."""

    instance: Instance
    own: int
    name_of: Callable[[NodeId], str] = str
    """What people call a node."""
    _facts: dict[int, RankFact] = field(default_factory=dict)
    _lost: dict[int, str] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.instance.nodes)

    def tell(self, rank: int, fact: RankFact | None) -> None:
        """Take in what a rank says; what belongs to another epoch is not about this one."""
        if fact is None:
            if self._facts.pop(rank, None) is not None:
                self._lost[rank] = f"{self._called(rank)} is gone"
            return
        if fact.instance != self.instance.id or fact.epoch != self.instance.epoch:
            return
        if fact.node != self.instance.nodes[rank]:
            return  # two halves of a cluster have each placed this epoch
        self._facts[rank] = fact
        if fact.phase in (Phase.FAILED, Phase.STOPPED) and rank != self.own:
            self._lost[rank] = f"{self._called(rank)}: {fact.reason}"

    @property
    def broken(self) -> str | None:
        """Why this epoch can't go on, for a person to read; None: it can."""
        others = (reason for rank, reason in sorted(self._lost.items()) if rank != self.own)
        return next(others, None)

    def connect(self) -> Connect | None:
        """How the ranks reach each other, once all of them listen."""
        facts = [self._facts.get(rank) for rank in range(self.count)]
        heard = [fact for fact in facts if fact is not None and fact.hop]
        if len(heard) < self.count:
            return None
        rings = tuple(fact.ring for fact in heard)
        budgets = tuple(fact.kv_budget_bytes for fact in heard)
        kept = {fact.kept for fact in heard}
        return Connect(
            hops=tuple(fact.hop for fact in heard),
            rings=rings if all(rings) else (),
            kv_bytes=budgets if all(budgets) else (),
            kept=kept.pop() if len(kept) == 1 else "",
        )

    def fitting(self, kv_bytes: int) -> int:
        """This rank's budget for KV cache, so that what fits it fits all the others that are known."""
        others = [
            (fact.kv_budget_bytes, self._layers(rank))
            for rank, fact in self._facts.items()
            if rank != self.own and fact.kv_budget_bytes
        ]
        return tightest(kv_bytes, self._layers(self.own), others)

    def _layers(self, rank: int) -> int:
        stage = self.instance.stages[rank // self.instance.tensor]
        return stage.end - stage.first

    @property
    def missing(self) -> str:
        """Whom this epoch waits for, for a person to read."""
        absent = [rank for rank in range(self.count) if rank != self.own and not self._listens(rank)]
        if not absent:
            return ""
        rank = absent[0]
        fact = self._facts.get(rank)
        how = fact.reason if fact is not None else "it has not been heard of yet"
        more = f", and for {len(absent) - 1} more" if len(absent) > 1 else ""
        return f"waiting for {self._called(rank)} ({how}){more}"

    def _listens(self, rank: int) -> bool:
        fact = self._facts.get(rank)
        return fact is not None and bool(fact.hop)

    def _called(self, rank: int) -> str:
        return f"rank {rank} on {self.name_of(self.instance.nodes[rank])}"
