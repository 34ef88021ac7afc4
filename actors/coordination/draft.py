"""A verdict in the making: what is declared so far, what it takes of memory, and when to look again."""

from dataclasses import replace

import msgspec

from actors.coordination.loosening import wishes_for
from actors.coordination.sight import Sight, add, held, outstanding, promised, spare
from actors.coordination.situation import Situation, Trouble
from bus.messages.base import InstanceId, NodeId
from bus.messages.facts import DeclaredFact, NodeFact
from bus.messages.placement import Choice, Instance, Previews, Wish

_OBSTACLES = 3
"""So many reasons why there is no place are told."""


class Draft:
    """One instance after another is decided on; each sees what was decided before it."""

    def __init__(self, state: Situation, now: float) -> None:
        self.state, self.now = state, now
        self.sight = Sight(state.ranks, state.instances)
        self.declared: dict[InstanceId, DeclaredFact] = dict(state.declared)
        self._history: dict[InstanceId, Trouble] = dict(state.history)
        self._changed: set[InstanceId] = set()
        self._next_look: float | None = None

    @property
    def next_look(self) -> float | None:
        return self._next_look

    @property
    def history(self) -> dict[InstanceId, Trouble]:
        """Without what nobody will ask for again."""
        return {
            id: trouble
            for id, trouble in self._history.items()
            if id in self.declared and not self.declared[id].withdrawn
        }

    @property
    def changes(self) -> tuple[DeclaredFact, ...]:
        return tuple(self.declared[id] for id in sorted(self._changed))

    def current(self) -> tuple[DeclaredFact, ...]:
        """What is not withdrawn, in a fixed order."""
        return tuple(self.declared[id] for id in sorted(self.declared) if not self.declared[id].withdrawn)

    def look(self, at: float) -> None:
        """Decide again by then."""
        self._next_look = at if self._next_look is None else min(self._next_look, at)

    # -- memory of what went wrong -----------------------------------------------------------------

    def trouble(self, instance: Instance) -> Trouble:
        return self._history.get(instance.id, Trouble())

    def note(self, instance: Instance, trouble: Trouble) -> None:
        self._history[instance.id] = trouble

    def forget(self, instance: Instance) -> None:
        self._history.pop(instance.id, None)

    def have_circumstances_changed(self, instance: Instance) -> bool:
        """Since the last try."""
        return self.trouble(instance).circumstances != self.state.circumstances(instance.model)

    # -- where it could run ------------------------------------------------------------------------

    def available(self, barred: frozenset[NodeId] = frozenset()) -> tuple[NodeFact, ...]:
        """Nodes that something new may be placed on."""
        return tuple(
            self.state.members[node]
            for node in sorted(self.state.members)
            if node not in barred and not self.state.members[node].leaving
        )

    def choose(self, wish: Wish) -> Choice | str:
        """The best place for a new instance, or why there is none."""
        nodes = self.available()
        if not nodes:
            return "no node takes anything new"
        previews = self._plan(wish, nodes, promised(self.declared, self.sight))
        return previews.choices[0] if previews.choices else _obstacles(previews)

    def choose_again(self, fact: DeclaredFact, beside: bool = False) -> Choice | str:
        """The best place for an instance that is declared already, as near to its wish as there is one; or
        why there is none. `beside`: what it holds now stays in use."""
        nodes = self.available(self.trouble(fact.instance).barred)
        if not nodes:
            return "no other node takes anything new"
        ledger = self.ledger_without(fact, beside)
        obstacle = ""
        for wish in wishes_for(fact.instance, nodes):
            previews = self._plan(wish, nodes, ledger)
            if previews.choices:
                return previews.choices[0]
            obstacle = _obstacles(previews)
        return obstacle

    def _plan(self, wish: Wish, nodes: tuple[NodeFact, ...], ledger: dict[NodeId, int]) -> Previews:
        models = self.state.copies_of(wish.model)
        if wish.draft is not None:
            models += self.state.copies_of(wish.draft)
        return self.state.plan(wish, models, nodes, ledger)

    def ledger_without(self, fact: DeclaredFact, beside: bool) -> dict[NodeId, int]:
        """What is promised on each node, as if this instance were not there (`beside`: but it is)."""
        ledger = promised(self.declared, self.sight)
        for instance in (None if beside else fact.instance, fact.successor):
            if instance is not None:
                add(ledger, outstanding(instance, self.sight), sign=-1)
                add(ledger, held(instance, self.sight), sign=-1)
                add(ledger, spare(instance, self.sight))
        return ledger

    # -- what is declared --------------------------------------------------------------------------

    def declare(self, instance: Instance, reason: str, successor: Instance | None = None) -> None:
        """This is how the instance stands from now on."""
        self._put(DeclaredFact(instance=instance, term=self.state.term, reason=reason, successor=successor))

    def restate(self, fact: DeclaredFact, reason: str, given_up: bool = False) -> None:
        """The same placement, for another reason."""
        if (fact.reason, fact.given_up) != (reason, given_up):
            again = msgspec.structs.replace(
                fact, term=self.state.term, reason=reason, given_up=given_up, at=0.0
            )
            self._put(again)

    def place(self, fact: DeclaredFact, choice: Choice, cause: str) -> None:
        """The next epoch, there."""
        instance = moved(fact, choice)
        self.declare(instance, f"epoch {instance.epoch}: {cause}; {self.where(instance)}: {choice.why}")

    def pause(self, fact: DeclaredFact, reason: str) -> None:
        """It is wanted, but runs nowhere for now."""
        instance = fact.instance
        if instance.stages or fact.successor is not None:
            instance = msgspec.structs.replace(instance, epoch=next_epoch(fact), stages=())
        self.declare(instance, reason)

    def withdraw(self, fact: DeclaredFact, reason: str) -> None:
        """It is not wanted any more, for ever."""
        instance = msgspec.structs.replace(fact.instance, epoch=next_epoch(fact), stages=())
        self._put(DeclaredFact(instance=instance, term=self.state.term, reason=reason, withdrawn=True))

    def names(self, nodes: tuple[NodeId, ...]) -> str:
        """What people call them, each once."""
        return ", ".join(dict.fromkeys(self.state.name_of(node) for node in nodes))

    def where(self, instance: Instance) -> str:
        """For a person to read."""
        return f"placed on {self.names(instance.nodes)}"

    def _put(self, fact: DeclaredFact) -> None:
        self.declared[fact.instance.id] = fact
        self._changed.add(fact.instance.id)


def moved(fact: DeclaredFact, choice: Choice) -> Instance:
    """The instance's next epoch, placed as chosen."""
    return placed(msgspec.structs.replace(fact.instance, epoch=next_epoch(fact)), choice)


def placed(instance: Instance, choice: Choice) -> Instance:
    """The same epoch, placed as chosen."""
    return msgspec.structs.replace(
        instance,
        stages=choice.stages,
        sharding=choice.sharding,
        interconnect=choice.interconnect,
        context=choice.context,
    )


def next_epoch(fact: DeclaredFact) -> int:
    """Higher than any that was declared of this instance, as one that was only being prepared was."""
    prepared = fact.successor.epoch if fact.successor is not None else 0
    return max(fact.instance.epoch, prepared) + 1


def tried(trouble: Trouble, draft: Draft, instance: Instance, again_at: float) -> Trouble:
    """Nothing came of it; the next try is due then, or when the circumstances change."""
    draft.look(again_at)
    return replace(trouble, again_at=again_at, circumstances=draft.state.circumstances(instance.model))


def _obstacles(previews: Previews) -> str:
    told = [f"{ruled.what}: {ruled.why}" for ruled in previews.ruled_out[:_OBSTACLES]]
    return "; ".join(told) or "no node can hold it"
