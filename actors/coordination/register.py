"""What is declared, as one node holds it: merged from everybody's word, in whatever order that comes."""

from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

import msgspec

from bus.messages.base import InstanceId
from bus.messages.facts import DeclaredFact
from bus.messages.placement import Term

REMEMBERED_S = 24 * 3600.0
"""So long it is remembered that an instance was withdrawn: a node that was away must not bring it back."""

_STEP_S = 1e-3
"""A later word of a coordinator on the same epoch is so much later at least, whatever the clock does."""

_NONE = Term()

Precedence: TypeAlias = tuple[bool, int, Term, float, bytes]

_bytes: Final = msgspec.msgpack.Encoder()


def precedence(fact: DeclaredFact) -> Precedence:
    """Of two declarations of an instance the one with the greater precedence counts.

    A withdrawal is final: half a cluster that had not heard of it may have reached any epoch since. Else
    the higher epoch counts, then the higher term, then, of two words of one coordinator, the later one.
    The bytes only make sure that two nodes never decide differently.
    """
    return fact.withdrawn, fact.instance.epoch, fact.term, fact.at, _bytes.encode(fact)


class Register:
    """The declarations that count, by instance, and the highest term that was ever seen."""

    def __init__(self, facts: Iterable[DeclaredFact] = (), highest: Term = _NONE) -> None:
        self._held: dict[InstanceId, DeclaredFact] = {}
        self._highest = highest
        for fact in facts:
            self.take(fact)

    @property
    def declared(self) -> Mapping[InstanceId, DeclaredFact]:
        """A copy, with those that are withdrawn."""
        return dict(self._held)

    @property
    def highest(self) -> Term:
        """To be kept across restarts: a term is never taken twice."""
        return self._highest

    def see(self, term: Term) -> bool:
        """Take in that there is such a term; true: it is higher than any before."""
        higher = term > self._highest
        if higher:
            self._highest = term
        return higher

    def take(self, fact: DeclaredFact) -> bool:
        """Merge anybody's word in; true: something changed by it, and is to be kept and passed on."""
        self.see(fact.term)
        held = self._held.get(fact.instance.id)
        if held is not None and (held == fact or precedence(held) > precedence(fact)):
            return False
        self._held[fact.instance.id] = fact
        return True

    def declare(self, fact: DeclaredFact, at: float) -> DeclaredFact:
        """Take a declaration of this node's own, made `at` seconds since 1970, and return what to publish.

        What it returns is what counts: a declaration of an older epoch or term than is held changes nothing.
        """
        held = self._held.get(fact.instance.id)
        if held is not None:
            at = max(at, held.at + _STEP_S)
        stamped = msgspec.structs.replace(fact, at=at)
        self.take(stamped)
        return self._held[fact.instance.id]

    def prune(self, wall: float) -> tuple[InstanceId, ...]:
        """Forget what was withdrawn long ago, as of `wall` seconds since 1970; return which."""
        old = tuple(id for id, fact in self._held.items() if fact.withdrawn and wall - fact.at > REMEMBERED_S)
        for id in old:
            del self._held[id]
        return old
