"""The Request actor: one API request, from accept to exactly one terminal event."""

import logging
import time
from collections.abc import Callable

from actors import names
from actors.actor import LoopActor
from actors.directory import Directory
from actors.lifecycle import Killed, Terminated
from actors.messages import Dispatch, InstanceChanged, Overdue, RequestMessage, Route, Tick
from actors.outlet import Outlet
from actors.retry import REQUEST_RETRIES, is_passing
from actors.tally import Tally
from bus.bus import Bus
from bus.messages.base import InstanceId, NodeId
from bus.messages.engine import Accepted, Prefilled, Refused
from bus.messages.facts import RequestFact
from bus.messages.generation import Delta, Refusal, RefusalCode
from bus.messages.placement import NotServed, Serving, Want
from bus.messages.request import Admitted, Completed, Failed, Order, Waiting

logger = logging.getLogger(__name__)

REPORT_S = 0.5
"""How often the request's fact is published while tokens flow."""

LOOK_AGAIN_S = 0.02
"""Between two looks for an actor that has just been declared or is being restarted."""

LOOKS = 500
"""How often it looks before it gives up."""

PLACEMENT_TIMEOUT_S = 30.0
"""Placing reads model folders, which may lie on a slow disk."""


class Request(LoopActor[RequestMessage]):
    """It has an instance found, dispatches its sequences to that instance's Runner, and puts what comes of
    them into its outlet. Killing it is how a request is cancelled: its Runner watches it."""

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
        self._tally = Tally(order)
        self._instance: InstanceId | None = None
        self._reason = "looking for an instance"
        self._started_at = time.time()
        self._losses = self._looks = 0
        self._rerouting = False

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
            case Delta() | Prefilled() | Accepted() | Refused():
                self._follow(message)
            case InstanceChanged(phase=phase, reason=reason, progress=progress):
                percent = "" if progress is None else f", {progress:.0%}"
                self._wait(f"the model is {phase}: {reason}{percent}")
            case Terminated():
                self._refused(Refusal(RefusalCode.ENGINE_LOST, "the instance is gone"))
            case Route():
                await self._route()
            case Tick():
                self._publish()
                self.tell_later(REPORT_S, Tick())
            case Overdue():
                self._fail(Refusal(RefusalCode.TIMEOUT, f"not finished within {self._timeout_s:g} s"))

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
        if self._instance is None and not await self._ask_placement():
            return
        assert self._instance is not None
        runner = self._directory.find(names.runner(self._instance))
        if runner is None:
            self._look_again("the model's runner")
            return
        self._rerouting = False
        runner.watch(self.actor_ref)
        runner.post(Dispatch(self._tally.submits(), self.actor_ref))

    async def _ask_placement(self) -> bool:
        """Have the model placed; false: there is no instance (yet)."""
        placement = self._directory.find(names.PLACEMENT)
        if placement is None:
            self._look_again("this node's placement")
            return False
        match await placement.request(Want(model=self._order.model), timeout=PLACEMENT_TIMEOUT_S):
            case Serving(instance=instance):
                self._instance = instance
                return True
            case NotServed(refusal=refusal):
                self._fail(refusal)
            case other:
                raise TypeError(f"Placement answered {other!r}")
        return False

    def _look_again(self, who: str) -> None:
        self._looks += 1
        if self._looks > LOOKS:
            self._fail(Refusal(RefusalCode.ENGINE_LOST, f"{who} is not there", retry_after_s=1.0))
        else:
            self.tell_later(LOOK_AGAIN_S, Route())

    # -- its answers -----------------------------------------------------------------------------

    def _follow(self, message: Delta | Prefilled | Accepted | Refused) -> None:
        match message:
            case Delta():
                self._add(message)
            case Prefilled():
                self._tally.prefill(message)
                self._wait("computing the prompt", self._tally.prefilled, self._tally.to_prefill)
            case Accepted(sequence=sequence, prompt_tokens=count):
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
        first = not self._tally.shown
        for chunk in self._tally.add(delta, time.monotonic()):
            self._outlet.put(chunk)
        if self._tally.finished:
            self._outlet.put(Completed(usage=self._tally.usage()))
            self.stop()
        elif first:
            self._reason = "generating"
            self._publish()

    def _wait(self, reason: str, done: int = 0, total: int = 0) -> None:
        if self._tally.shown:
            return
        changed = reason != self._reason
        self._reason = reason
        self._outlet.put(Waiting(reason=reason, done=done, total=total))
        if changed:
            self._publish()

    def _refused(self, refusal: Refusal) -> None:
        """Try again what may go better now, as long as the client has seen nothing; else this is the end."""
        if self._outlet.ended or self._rerouting:
            return  # each of its sequences is refused: the first one said it all
        if is_passing(refusal.code) and not self._tally.shown:
            self._losses += 1
            wait_s = REQUEST_RETRIES.wait_s(self._losses)
            if wait_s is not None:
                self._begin_again(refusal.message, wait_s)
                return
        self._fail(refusal)

    def _begin_again(self, reason: str, wait_s: float) -> None:
        self._tally = Tally(self._order)
        self._instance = None
        self._rerouting = True
        self._wait(reason)
        self.tell_later(wait_s, Route())

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
        )
        self._bus.publish(self._key, fact)
