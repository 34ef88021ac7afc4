"""What a coordinator decides from, and what it decides: frozen values only."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from bus.messages.base import InstanceId, ModelId, NodeId
from bus.messages.facts import DeclaredFact, InstanceFact, ModelFact, NodeFact, RankFact
from bus.messages.placement import Created, Previews, Term, ToCoordinator, Wish

REJOIN_S = 15.0
"""After its own start a coordinator waits so long for nodes that it has not met, before it places anew what
was declared on them: after a restart of all they come back one by one."""


class Plan(Protocol):
    """Weighs how a wish can be placed on `nodes`, all of which may be used; `models` are their copies of its
    model and of its draft model.

    `promised`: bytes that each node's free memory does not show yet, since placed instances will still take
    them; below zero, what will come free there.
    """

    def __call__(
        self,
        wish: Wish,
        models: Sequence[ModelFact],
        nodes: Sequence[NodeFact],
        promised: Mapping[NodeId, int],
    ) -> Previews: ...


Circumstances: TypeAlias = frozenset[tuple[str, str | float]]
"""What has to change before a try that was given up makes sense again: who is there, and which files."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What went wrong with an instance of late."""

    failures: int = 0
    """Epochs that failed in a row."""
    epoch: int = 0
    """The last one that was lost."""
    lost_at: float = float("-inf")
    """When that was noticed."""
    again_at: float = float("-inf")
    """Not tried before that."""
    barred: frozenset[NodeId] = frozenset()
    """Nodes where it failed for good."""
    given_up: str = ""
    """Why it is not tried any more; empty: it is."""
    circumstances: Circumstances = frozenset()
    """As they were when it was last tried or given up."""
    ready_since: float | None = None
    told_at: float = float("-inf")
    """When a reason for waiting was last declared."""
    awaited: bool = False
    """Its nodes were waited for after a restart."""


History: TypeAlias = Mapping[InstanceId, Trouble]
"""A coordinator's own memory: begins empty with each term."""


@dataclass(frozen=True, slots=True)
class Situation:
    """All that an acting coordinator knows, at one moment. Times are on the clock of `now`."""

    me: NodeId
    term: Term
    started: float
    """When this node began."""
    declared: Mapping[InstanceId, DeclaredFact]
    """The register, with what is withdrawn."""
    members: Mapping[NodeId, NodeFact]
    """Those that live, this node too."""
    met: Mapping[NodeId, str]
    """The names of those that were members at any time since this node began."""
    ranks: tuple[RankFact, ...]
    """Of members only, as are the next two."""
    instances: tuple[InstanceFact, ...]
    models: tuple[ModelFact, ...]
    plan: Plan
    new_id: Callable[[], InstanceId]
    orders: tuple[ToCoordinator, ...] = ()
    """What was asked of the coordinator since it last decided, in order."""
    history: History = field(default_factory=dict)
    rejoin_s: float = REJOIN_S

    def name_of(self, node: NodeId) -> str:
        """What people call a node."""
        fact = self.members.get(node)
        return fact.name if fact is not None else self.met.get(node, node)

    def copies_of(self, model: ModelId) -> tuple[ModelFact, ...]:
        """Which nodes have it."""
        return tuple(fact for fact in self.models if fact.id == model)

    def circumstances(self, model: ModelId) -> Circumstances:
        """What a model's placement depends on, without how busy the nodes are."""
        lives: set[tuple[str, str | float]] = {(node, fact.started_at) for node, fact in self.members.items()}
        copies: set[tuple[str, str | float]] = {
            (f"{fact.node} has {model}", fact.folder_mark) for fact in self.copies_of(model)
        }
        return frozenset(lives | copies)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a coordinator does next."""

    declare: tuple[DeclaredFact, ...]
    """To be taken into the register and published; at most one for an instance."""
    next_look: float | None
    """When to decide again even if nothing changes."""
    answers: tuple[Created, ...]
    """One for each order, in order; what a Withdraw is answered with has no instances."""
    history: History
    """For the next Situation of this term."""
