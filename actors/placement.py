"""The Placement actor: holds what is declared, does this node's part of it and, as coordinator, declares."""

import logging
import secrets
import threading
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from actors import names
from actors.coordination import ledger_file
from actors.coordination.govern import govern
from actors.coordination.office import Office, Standing
from actors.coordination.sight import Sight, promised
from actors.coordination.situation import History, Situation, Verdict
from actors.downloader import find_here
from actors.kernel.actor import ThreadActor
from actors.kernel.directory import Directory
from actors.kernel.loop import Timer, bound_loop
from actors.messages import (
    Drain,
    Elsewhere,
    Look,
    Opened,
    PlacementMessage,
    Preview,
    Release,
    Run,
    Tick,
)
from actors.placing.local_part import Key, next_steps
from actors.placing.lookout import Lookout
from actors.placing.recent import Recent
from actors.placing.routing import has_failed_alone, route
from actors.placing.seen import Seen
from actors.placing.weighing import unknown, unplaced, weigh
from actors.planner.words import refusal
from bus.bus import Bus
from bus.messages.base import InstanceId, ModelId, NodeId
from bus.messages.facts import CoordinatorFact, DeclaredFact, Fact, WishFact
from bus.messages.generation import Refusal, RefusalCode
from bus.messages.placement import (
    Create,
    Created,
    Instance,
    NotServed,
    Previews,
    Serving,
    Term,
    ToCoordinator,
    Want,
    Wish,
    Withdraw,
)

logger = logging.getLogger(__name__)

PERIOD_S = 2.0
"""Between two looks when nothing seems to change: memory that frees tells nobody."""

NOTHING = Verdict(declare=(), next_look=None, answers=(), history={})
"""What a node decides that is not in office."""

SOON_S = 0.1
"""Before another look at what has to end here first."""

DRAIN_S = 30.0
"""How long the requests of a withdrawn instance may take to end."""


class Placement(ThreadActor[PlacementMessage]):
    """One on every node, and all of them know the same. The one that is in office also decides: it publishes
    what it declares; everybody takes that in, keeps it on disk, and does its own part of it.

    What it decides is in `coordination` and `planner`, as functions of what the facts say.
    """

    def __init__(
        self,
        node: NodeId,
        bus: Bus,
        directory: Directory,
        wishes: tuple[Wish, ...],
        data_dir: Path,
        since: float,
        *,
        auto_place: bool = True,
        opened: threading.Event | None = None,
    ) -> None:
        """`since`: when the node was started, seconds since 1970."""
        super().__init__()
        self._since = since
        self._node, self._bus, self._directory = node, bus, directory
        self._wishes, self._data_dir, self._auto_place = wishes, data_dir, auto_place
        self._opened = opened or threading.Event()
        self._running: dict[Key, Instance] = {}
        self._drained: set[Key] = set()
        self._history: History = {}
        self._recent = Recent()
        self._standing = Standing(None, Term(), acting=False, next_look=None)
        self._published: set[str] = set()
        self._met: dict[NodeId, str] = {}
        self._timer: Timer | None = None
        self._started = time.monotonic()

    def on_start(self) -> None:
        """Take up what was declared when this node last ran, and look around."""
        self._register = ledger_file.read(self._data_dir)
        self._office = Office(self._node, highest=self._register.highest)
        if self._opened.is_set():  # this is a restart
            self._office.open(time.monotonic())
        self._adopt()
        if self._wishes:
            fact = WishFact(node=self._node, since=self._since, wishes=self._wishes)
            self._bus.publish(f"wish/{self._node}", fact)
        me = self.actor_ref
        self._lookout = Lookout(self._bus.view, bound_loop(), lambda: me.post(Look()))

    def on_receive(self, message: PlacementMessage) -> object:
        """See each message's own docstring."""
        match message:
            case Look() | Tick():
                self._lookout.rest()
                self._consider()
                return None
            case Opened():
                self._office.open(time.monotonic())
                self._consider()
                return None
            case Want():
                return self._want(message)
            case Preview(wish=wish):
                return self._preview(wish)
            case Create() | Withdraw():
                return self._take_order(message)

    def on_end(self, cause: BaseException | None) -> None:
        """What is declared stays; who decides is somebody else, or the next Placement here."""
        self._lookout.close()
        for key in self._published | {self._office_key}:
            self._bus.withdraw(key)

    # -- looking around ----------------------------------------------------------------------------

    def _consider(self, *orders: ToCoordinator) -> tuple[Created, ...]:
        """Take in what the facts say, decide what is this node's to decide, and do this node's part."""
        facts = self._bus.view.facts()
        seen = Seen.of(facts)
        if self._node not in seen.members:  # its own first word is still on its way
            self._look_again(SOON_S)
            return ()
        self._met |= {node: fact.name for node, fact in seen.members.items()}
        news = [fact for fact in seen.declared.values() if self._register.take(fact)]
        verdict = self._decide(seen, orders)
        news += [self._declare(fact) for fact in verdict.declare]
        if self._register.prune(time.time()) or news:
            ledger_file.write(self._data_dir, self._register)
        self._publish(seen)
        unfinished = self._do_own_part(facts)
        waits = [PERIOD_S, *([SOON_S] if unfinished else [])]
        waits += [
            at - time.monotonic() for at in (verdict.next_look, self._standing.next_look) if at is not None
        ]
        self._look_again(max(min(waits), 0.01))
        return verdict.answers

    def _decide(self, seen: Seen, orders: tuple[ToCoordinator, ...]) -> Verdict:
        """As the coordinator, if this node is in office."""
        now = time.monotonic()
        since = {node: fact.started_at for node, fact in seen.members.items()}
        self._office.saw(since, seen.coordinators, now, self._register.highest)
        standing = self._office.tick(now)
        if self._register.see(standing.term) and standing.acting:
            ledger_file.write(self._data_dir, self._register)  # a term is never taken twice
        if standing.term != self._standing.term or standing.acting != self._standing.acting:
            self._take_office(standing)
        self._standing = standing
        if not standing.acting:
            return NOTHING
        wished = seen.unheard_wishes(self._register.declared.values())
        situation = Situation(
            me=self._node,
            term=standing.term,
            started=self._started,
            declared=self._register.declared,
            members=seen.members,
            met=dict(self._met),
            ranks=seen.ranks,
            instances=seen.instances,
            models=seen.models,
            plan=partial(weigh, held=seen.held),
            new_id=lambda: InstanceId(secrets.token_hex(4)),
            orders=(*orders, *(Create(wish=wish, once=True) for wish in wished)),
            history=self._history,
        )
        verdict = govern(situation, now)
        self._history = verdict.history
        return verdict

    def _declare(self, fact: DeclaredFact) -> DeclaredFact:
        """Whoever looks at the log alone sees as well what was decided, and why something runs nowhere."""
        waits = not fact.withdrawn and (fact.given_up or not fact.instance.stages)
        logger.log(logging.WARNING if waits else logging.INFO, "%s: %s", fact.instance.model, fact.reason)
        return self._register.declare(fact, time.time())

    def _take_office(self, standing: Standing) -> None:
        """Let everybody know who is coordinator, where that has changed for this node."""
        if standing.acting:
            logger.info("this node is the coordinator, term %d", standing.term.number)
            fact = CoordinatorFact(node=self._node, term=standing.term, since=time.time())
            self._history = {}
            self._bus.publish(self._office_key, fact)
        else:
            self._bus.withdraw(self._office_key)
            if standing.coordinator is not None:
                name = self._met.get(standing.coordinator, standing.coordinator)
                logger.info("%s is the coordinator, term %d", name, standing.term.number)

    def _publish(self, seen: Seen) -> None:
        """All that is declared, from the coordinator; from others, what it does not know yet."""
        keys = set()
        for fact in self._register.declared.values():
            if self._standing.acting or not seen.knows(self._standing.coordinator, fact):
                key = f"declared/{self._node}/{fact.instance.id}"
                self._bus.publish(key, fact)
                keys.add(key)
            if self._standing.acting and not fact.instance.stages and not fact.withdrawn:
                keys.add(self._show_unplaced(fact))
        for key in self._published - keys:
            self._bus.withdraw(key)
        self._published = keys

    def _show_unplaced(self, declared: DeclaredFact) -> str:
        """An instance without a place has no rank 0 that could speak for it."""
        instance = declared.instance
        key = f"instance/{instance.id}/{instance.epoch}"
        self._bus.publish(key, unplaced(declared))
        return key

    def _look_again(self, delay_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.tell_later(delay_s, Tick())

    @property
    def _office_key(self) -> str:
        return f"coordinator/{self._node}"

    # -- this node's own part ----------------------------------------------------------------------

    def _do_own_part(self, facts: Mapping[str, Fact]) -> bool:
        """Have the Supervisor run and release what is declared; true: something has to end first."""
        declared = self._register.declared.values()
        steps = next_steps(self._node, declared, self._running, self._alive(), facts)
        for key in steps.drain:
            if key not in self._drained:
                self._drained.add(key)
                self._directory.post(names.rank(*key), Drain(DRAIN_S))
        for key in steps.release:
            self._directory.post(names.SUPERVISOR, Release(*key))
            del self._running[key]
            self._drained.discard(key)
        for instance in steps.run:
            self._running[instance.id, instance.epoch] = instance
            self._directory.post(names.SUPERVISOR, Run(instance))
        return steps.unfinished

    def _alive(self) -> set[Key]:
        return {key for name in self._directory.names() if (key := names.epoch_of(name)) is not None}

    def _adopt(self) -> None:
        """Take over what a Placement before this one had begun here; what is not declared any more ends."""
        alive = self._alive()
        for fact in self._register.declared.values():
            for instance in (fact.instance, fact.successor):
                if instance is not None and (instance.id, instance.epoch) in alive:
                    self._running[instance.id, instance.epoch] = instance
        for key in alive - self._running.keys():
            self._directory.post(names.SUPERVISOR, Release(*key))

    # -- what it is asked --------------------------------------------------------------------------

    def _want(self, want: Want) -> Serving | NotServed:
        facts = self._bus.view.facts()
        now = time.monotonic()
        recent = self._recent.counts(now)
        answer = route(want.model, self._register.declared.values(), facts, want.trail, recent)
        if isinstance(answer, Serving) and not has_failed_alone(answer, facts):
            self._recent.note(answer.instance, now, want.sequences)
            return answer
        # It may have been copied here a moment ago, or mended: look now, not when its turn comes.
        here = find_here(self._directory, want.model)
        copies = Seen.of(facts).copies_of(want.model)
        if here is not None and not any(c.node == self._node and c.folder_mark == here.mark for c in copies):
            passing = Refusal(RefusalCode.ENGINE_LOST, f"model '{want.model}' has just changed on this node")
            return NotServed(passing)
        if isinstance(answer, Serving):
            return answer
        if answer.unplaced and not copies:
            return NotServed(unknown(want.model))
        if answer.unplaced and not self._auto_place:
            return NotServed(answer.refusal)
        return answer

    def _preview(self, wish: Wish) -> Previews | Refusal:
        seen = Seen.of(self._bus.view.facts())
        copies = seen.copies_of(wish.model)
        if not copies:
            return unknown(wish.model)
        return weigh(wish, seen.models, tuple(seen.members.values()), self._promised(seen), held=seen.held)

    def _promised(self, seen: Seen) -> Mapping[NodeId, int]:
        return promised(self._register.declared, Sight(seen.ranks, seen.instances))

    def _take_order(self, order: ToCoordinator) -> Created | Refusal | Elsewhere | None:
        self._consider()
        if not self._standing.acting:
            return Elsewhere(self._standing.coordinator)
        if isinstance(order, Create) and not (order.once and self._has(order.wish.model)):
            answer = self._preview(order.wish)
            if isinstance(answer, Refusal):
                return answer
            if not answer.choices and self._is_being_examined(order.wish.model):
                return Elsewhere(None, f"how model '{order.wish.model}' can be divided is being found out")
            if not answer.choices:
                return refusal(answer, order.wish)
        elif isinstance(order, Withdraw) and not self._is_declared(order.instance):
            return Refusal(
                RefusalCode.INSTANCE_NOT_FOUND, f"there is no instance {order.instance}", param="id"
            )
        answers = self._consider(order)
        if not answers:  # the office was lost in between
            return Elsewhere(self._standing.coordinator)
        return answers[0] if isinstance(order, Create) else None

    def _has(self, model: ModelId) -> bool:
        declared = self._register.declared.values()
        return any(fact.instance.model == model and not fact.withdrawn for fact in declared)

    def _is_declared(self, instance: InstanceId) -> bool:
        fact = self._register.declared.get(instance)
        return fact is not None and not fact.withdrawn

    def _is_being_examined(self, model: ModelId) -> bool:
        copies = Seen.of(self._bus.view.facts()).copies_of(model)
        return any(copy.shape is not None and not copy.shape.examined for copy in copies)
