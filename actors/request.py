"""The Request actor: one API request, from accept to exactly one terminal event."""

import asyncio
import logging
import time
from collections.abc import Callable

import pykka

from actors import names
from actors.asking import ask_coordinator
from actors.kernel.actor import LoopActor
from actors.kernel.directory import Directory
from actors.kernel.lifecycle import Killed, Terminated
from actors.kernel.mailbox import MailboxFull
from actors.kernel.reference import AskTimeout, Ref
from actors.messages import (
    Abandon,
    Dispatch,
    DoorMessage,
    InstanceChanged,
    Overdue,
    RequestMessage,
    Route,
    Tick,
)
from actors.outlet import Outlet
from actors.retry import RequestTries
from actors.tally import Tally
from bus.bus import Bus
from bus.messages.base import InstanceId, NodeId
from bus.messages.engine import Accepted, Prefilled, Queued, Refused
from bus.messages.facts import RequestFact
from bus.messages.generation import Delta, Refusal, RefusalCode
from bus.messages.placement import Create, NotServed, Serving, Want, Wish
from bus.messages.request import Admitted, Completed, Failed, Order, Waiting
from bus.trail import trail_of

logger = logging.getLogger(__name__)

REPORT_S = 0.5
"""How often the request's fact is published while tokens flow."""

PLACEMENT_TIMEOUT_S = 30.0
"""Placing reads model folders, which may lie on a slow disk."""


class Request(LoopActor[RequestMessage]):
    """It has an instance found, dispatches its sequences to that instance's door, and puts what comes of
    them into its outlet. When their engine is lost, it has one found again and goes on from the tokens that
    it has: its client sees a pause. Killing it is how a request is cancelled: its door watches it."""

    mailbox_bound = 100_000

    def __init__(
        self,
        order: Order,
        outlet: Outlet,
        node: NodeId,
        bus: Bus,
        directory: Directory,
        timeout_s: float,
        ended: Callable[[], object],
    ) -> None:
        super().__init__()
        self._order, self._outlet, self._node = order, outlet, node
        self._bus, self._directory = bus, directory
        self._timeout_s, self._ended = timeout_s, ended
        self._due = time.monotonic() + timeout_s
        self._tally = Tally(order)
        self._trail = trail_of(order.prompts[0])
        self._instance: InstanceId | None = None
        self._reason = "looking for an instance"
        self._place: int | None = None
        self._started_at = time.time()
        self._door: Ref[DoorMessage] | None = None
        self._tries = RequestTries()
        self._dispatched = False

    async def on_start(self) -> None:
        """Look for an instance."""
        logger.debug("%s begins: model %s, %d sequences", self._id, self._order.model, self._sequences)
        self._publish()
        self.tell_later(self._timeout_s, Overdue())
        self.tell_later(REPORT_S, Tick())
        await self._route()

    async def on_receive(self, message: RequestMessage) -> None:
        """See each message's own docstring."""
        match message:
            case Delta() | Prefilled() | Queued() | Accepted() | Refused():
                self._follow(message)
            case InstanceChanged():
                self._wait(_how_it_is(message))
            case Terminated(ref=ref):
                if ref == self._door:
                    self._refused(_lost("the instance is gone"))
            case Route():
                await self._route()
            case Tick():
                self._publish()
                self.tell_later(REPORT_S, Tick())
            case Overdue():
                self._overdue()

    def on_end(self, cause: BaseException | None) -> None:
        """However it ends, the client has been told or is told now."""
        if not self._outlet.ended:
            code = (
                RefusalCode.CANCELLED
                if cause is None or isinstance(cause, Killed)
                else RefusalCode.ENGINE_FAILED
            )
            self._outlet.put(
                Failed(refusal=Refusal(code, str(cause) if cause else "the request was stopped"))
            )
        logger.debug("%s ended: %d tokens, %s", self._id, self._tally.generated, cause or "as it should")
        self._bus.withdraw(self._key)
        self._ended()

    # -- finding an instance ---------------------------------------------------------------------

    async def _route(self) -> None:
        """The deadline holds as well while somebody else takes time to answer."""
        deadline = asyncio.timeout(self._due - time.monotonic())
        try:
            async with deadline:
                await self._go_to_door()
        except TimeoutError:
            if not deadline.expired():
                raise
            self._overdue()

    async def _go_to_door(self) -> None:
        serving = await self._ask_placement()
        if serving is None:
            return
        door = self._directory.find(names.door(serving.instance, serving.epoch))
        if door is None:
            self._refused(_lost("the model's instance is not there yet"))
            return
        self._instance, self._door = serving.instance, door
        door.watch(self.actor_ref)
        self._dispatched = True
        if door.post(Dispatch(self._tally.submits(), self.actor_ref)):
            self._reason = "the prompt is being read"  # told with the next tick: mostly it takes no time
        else:
            self._refused(_lost("the model's instance takes nothing now"))

    async def _ask_placement(self) -> Serving | None:
        """Have the model placed; None: there is no instance (yet), and that has been seen to."""
        placement = self._directory.find(names.PLACEMENT)
        if placement is None:
            self._refused(_lost("this node's placement is not there yet"))
            return None
        try:
            unfinished = len(self._tally.unfinished)
            want = Want(model=self._order.model, trail=self._trail, sequences=unfinished)
            answer = await placement.request(want, timeout=PLACEMENT_TIMEOUT_S)
        except (AskTimeout, MailboxFull, pykka.ActorDeadError) as error:
            self._refused(_lost(f"this node's placement does not answer: {error}"))
            return None
        match answer:
            case Serving():
                return answer
            case NotServed(unplaced=True) if self._dispatched:
                self._fail(self._withdrawn())
            case NotServed(unplaced=True):
                await self._have_placed()
            case NotServed(refusal=refusal):
                self._refused(refusal)
            case other:
                raise TypeError(f"Placement answered {other!r}")
        return None

    def _withdrawn(self) -> Refusal:
        """Somebody had the model's last instance withdrawn: that is not undone by who waited for it."""
        message = f"model '{self._order.model}' was withdrawn while this request waited for it"
        return Refusal(RefusalCode.MODEL_NOT_FOUND, message, param="model")

    async def _have_placed(self) -> None:
        """Nobody has asked for this model yet: have the coordinator place it, and go there."""
        self._wait("having the model placed")
        wish = Create(wish=Wish(model=self._order.model), once=True)
        answer = await ask_coordinator(self._directory, self._bus.mesh, wish)
        if isinstance(answer, Refusal):
            self._refused(answer)
        else:
            self._refused(_lost("the model's instance is not there yet"))

    # -- its answers -----------------------------------------------------------------------------

    def _follow(self, message: Delta | Prefilled | Queued | Accepted | Refused) -> None:
        if not self._tally.expects(message.sequence):
            return
        match message:
            case Delta():
                self._add(message)
            case Prefilled():
                self._tally.prefill(message)
                self._wait_for_prefill()
            case Queued():
                self._tally.queue(message)
                self._wait_in_line()
            case Accepted(sequence=sequence, prompt_tokens=count):
                self._tries.took()
                if self._tally.accept(sequence, count):
                    self._admitted()
            case Refused(refusal=refusal):
                self._refused(refusal)

    def _admitted(self) -> None:
        assert self._instance is not None
        self._reason = "waiting for its turn"
        self._outlet.put(Admitted(instance=self._instance, prompt_tokens=self._tally.prompt_tokens))
        self._publish()

    def _add(self, delta: Delta) -> None:
        paused = not self._tally.flowing
        if delta.tokens:
            self._tries.progressed()
        for chunk in self._tally.add(delta, time.monotonic()):
            self._outlet.put(chunk)
        if self._tally.finished:
            self._outlet.put(Completed(usage=self._tally.usage()))
            self.stop()
        elif paused and self._tally.flowing:
            self._reason, self._place = "generating", None
            self._publish()
        elif delta.finish is not None:
            self._wait_in_line()

    def _wait_for_prefill(self) -> None:
        tally = self._tally
        if tally.generated:
            self._wait("computing again what it has of the answer")
        else:
            self._wait("computing the prompt", tally.prefilled, tally.to_prefill)

    def _wait_in_line(self) -> None:
        """While nothing of it goes on: what the first of its answers waits for."""
        queued = self._tally.queued
        if queued is not None:
            self._wait(self._why_in_line(queued), place=queued.place)

    def _why_in_line(self, queued: Queued) -> str:
        """To an engine, who comes from a lost one looks as if it had been put off itself."""
        if self._tally.resumes:
            return "waiting again for memory"
        return "waiting for its turn to go on" if self._tally.goes_on else queued.reason

    def _wait(self, reason: str, done: int = 0, total: int = 0, place: int | None = None) -> None:
        if self._tally.flowing:
            return
        changed, moved = reason != self._reason, place != self._place
        self._reason, self._place = reason, place
        if changed or moved or total:
            waiting = Waiting(reason=reason, done=done, total=total, place=place, eta_s=self._tally.eta_s)
            self._outlet.put(waiting)
        if changed:  # a place that has moved is published with the next tick: a line may be long
            self._publish()

    def _refused(self, refusal: Refusal) -> None:
        """Go on elsewhere after what passes; after anything else, this is the end."""
        if self._outlet.ended:
            return
        wait_s = self._tries.wait_s(refusal.code, self._tally.admitted)
        if wait_s is None:
            self._fail(refusal)
            return
        logger.debug("%s asks again in %.2f s: %s", self._id, wait_s, refusal.message)
        self._leave_door()
        self._wait(refusal.message)
        self.tell_later(wait_s, Route())

    def _leave_door(self) -> None:
        """Nothing that was dispatched so far is wanted any more: some of it may be computed still."""
        door, self._door, self._instance = self._door, None, None
        if door is not None:
            door.unwatch(self.actor_ref)
            door.post(Abandon(self._tally.lose()))

    def _overdue(self) -> None:
        self._fail(Refusal(RefusalCode.TIMEOUT, f"not finished within {self._timeout_s:g} s"))

    def _fail(self, refusal: Refusal) -> None:
        self._outlet.put(Failed(refusal=refusal))
        self.stop()

    # -- what is shown ---------------------------------------------------------------------------

    @property
    def _id(self) -> str:
        return self._order.request

    @property
    def _key(self) -> str:
        return f"request/{self._id}"

    @property
    def _sequences(self) -> int:
        return len(self._tally.answers)

    def _publish(self) -> None:
        tally = self._tally
        fact = RequestFact(
            id=self._order.request,
            node=self._node,
            model=self._order.model,
            state=tally.state,
            reason=self._reason,
            started_at=self._started_at,
            sequences=self._sequences,
            instance=self._instance,
            prompt_tokens=tally.to_prefill,
            prefilled_tokens=tally.prefilled,
            generated_tokens=tally.generated,
            tokens_per_s=tally.tokens_per_s,
            cached_tokens=tally.cached,
            place=self._place,
            eta_s=tally.eta_s,
            priority=self._order.priority,
        )
        self._bus.publish(self._key, fact)


def _how_it_is(changed: InstanceChanged) -> str:
    why = "" if changed.reason == changed.phase else f": {changed.reason}"
    percent = "" if changed.progress is None else f", {changed.progress:.0%}"
    return f"the model is {changed.phase}{why}{percent}"


def _lost(why: str) -> Refusal:
    return Refusal(RefusalCode.ENGINE_LOST, why, retry_after_s=1.0)
