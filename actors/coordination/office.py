"""Who is coordinator, as one node sees it: the longest-standing live member, once that has settled. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bus.messages.base import NodeId
from bus.messages.facts import CoordinatorFact
from bus.messages.placement import Term

SETTLE_S = 0.5
"""So long a node has to be the longest-standing one before it acts: views of who lives differ a moment."""

_ASLEEP = 4
"""Not asked for so many times the settling time: this process was stopped, and what it saw is out of date."""


_NONE = Term()


@dataclass(frozen=True, slots=True)
class Standing:
    """Who is coordinator now."""

    coordinator: NodeId | None
    """Whom to ask; None: nobody is, for a moment."""
    term: Term
    """The coordinator's; with nobody in office, the highest that was seen."""
    acting: bool
    """It is this node."""
    next_look: float | None
    """When to ask again even if nothing is seen, on the clock of `now`."""


@dataclass(slots=True)
class Office:
    """One node's view of the office of coordinator; this node takes it when its turn comes.

    Each term is higher than any that its holder had seen. Of two nodes that acted unknown to each other the
    one that goes on takes a new one, once the other has had time to step down and its word is known here.
    """

    me: NodeId
    settle_s: float = SETTLE_S
    highest: Term = _NONE
    """The highest term that was ever seen, here or in an earlier life."""
    _opened: bool = False
    _met_another: bool = False
    _members: Mapping[NodeId, float] = field(default_factory=dict)
    _coordinators: Mapping[NodeId, CoordinatorFact] = field(default_factory=dict)
    _first_since: float | None = None
    _asked_at: float | None = None
    _term: Term | None = None

    def open(self, now: float) -> None:
        """Those that were to be found at the start have been found, or have had their time."""
        self._opened = True
        self._consider(now)

    def saw(
        self,
        members: Mapping[NodeId, float],
        coordinators: Mapping[NodeId, CoordinatorFact],
        now: float,
        highest: Term = _NONE,
    ) -> None:
        """Take in who lives, this node too, and since when; who of them says that it is coordinator; and the
        highest term that any declaration bears."""
        self._members = dict(members)
        self._met_another |= len(members) > 1
        self._coordinators = {
            node: fact for node, fact in coordinators.items() if node in members and node != self.me
        }
        self.highest = max(self.highest, highest, *(fact.term for fact in coordinators.values()))
        self._consider(now)

    def tick(self, now: float) -> Standing:
        """Where the office stands. Ask at every change, and no later than at `next_look`."""
        if self._asked_at is not None and now - self._asked_at > _ASLEEP * self.settle_s:
            self._step_down(now)
        self._asked_at = now
        self._consider(now)
        if self._term is None and self._first_since is not None and now >= self._settled_at:
            self._term = self.highest = Term(self.highest.number + 1, self.me)
        return self._standing(now)

    def _standing(self, now: float) -> Standing:
        if self._term is not None:
            return Standing(self.me, self._term, True, now + self.settle_s)
        next_look = None if self._first_since is None else self._settled_at
        heads = [node for node in self._coordinators if node != self.me]
        if not heads:
            return Standing(None, self.highest, False, next_look)
        head = min(heads, key=self._seniority)
        return Standing(head, self._coordinators[head].term, False, next_look)

    @property
    def _settled_at(self) -> float:
        """When this node may act if nothing else is seen; who never met another has nobody to differ with."""
        assert self._first_since is not None
        return self._first_since + (self.settle_s if self._met_another else 0.0)

    def _consider(self, now: float) -> None:
        """Begin to wait for the office where it is this node's turn, give it up where it is not."""
        if not self._opened or self._is_another_first():
            self._first_since = self._term = None
        elif self._first_since is None:
            self._first_since = now
        elif self._term is not None and self._is_rivalled(self._term):
            self._step_down(now)

    def _step_down(self, now: float) -> None:
        """Its turn, if it is this node's, begins anew."""
        self._term = None
        if self._first_since is not None:
            self._first_since = now

    def _is_another_first(self) -> bool:
        mine = self._seniority(self.me)
        return self.me not in self._members or any(self._seniority(node) < mine for node in self._members)

    def _is_rivalled(self, term: Term) -> bool:
        rivals = (fact.term.number for fact in self._coordinators.values())
        return self.highest > term or any(number >= term.number for number in rivals)

    def _seniority(self, node: NodeId) -> tuple[float, NodeId]:
        return self._members.get(node, 0.0), node
