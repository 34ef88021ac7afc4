"""The Runner actor: owns one engine process, from its start through its phases to its end."""

import logging
import time
from dataclasses import dataclass, field

from actors import names
from actors.actor import LoopActor
from actors.directory import Directory
from actors.engine_link import EngineLink
from actors.instance_state import IDLE, InstanceState
from actors.lifecycle import Terminated
from actors.messages import (
    Dispatch,
    EngineLost,
    EngineSaid,
    Launch,
    RequestMessage,
    RunnerMessage,
    Tick,
    Undelivered,
)
from actors.retry import ENGINE_RESTARTS
from actors.roster import Roster
from actors.watchdog import Deadlines, Watchdog
from bus.bus import Bus
from bus.messages.base import SequenceId
from bus.messages.engine import (
    Accepted,
    Beat,
    FromEngine,
    Hello,
    Load,
    Phase,
    PhaseChange,
    Refused,
    Step,
)
from bus.messages.generation import Refusal, RefusalCode
from bus.messages.placement import Instance

logger = logging.getLogger(__name__)

CHECK_S = 0.5
"""How often the watchdog looks."""

STEADY_S = 60.0
"""An engine that was ready for so long counts as well: earlier failures are forgotten."""


_UNWATCHED = frozenset({Phase.WAITING, Phase.DRAINING, Phase.STOPPED, Phase.FAILED})
"""Phases in which no engine runs, or one whose end has a deadline of its own."""


@dataclass(frozen=True, slots=True)
class RunnerSettings:
    """What a person may set about engines."""

    pace_s: float
    """See Load."""
    max_running: int = 64
    max_sequences: int = 512
    """Running and waiting together; more are refused."""
    deadlines: Deadlines = field(default_factory=Deadlines)
    patience_s: float = 5.0
    """For an engine that was asked to stop."""


class Runner(LoopActor[RunnerMessage]):
    """Requests are dispatched to it at any time: what comes before the engine is ready waits, and is told
    why. It watches each Request; one that ends before its sequences did has them cancelled."""

    mailbox_bound = 100_000

    def __init__(self, instance: Instance, bus: Bus, directory: Directory, settings: RunnerSettings) -> None:
        super().__init__()
        self._instance, self._bus, self._directory, self._settings = instance, bus, directory, settings
        self._state = InstanceState(instance)
        self._roster = Roster(settings.max_sequences)
        self._link: EngineLink | None = None
        self._launches = 0

    async def on_start(self) -> None:
        """Start the first engine process."""
        self.tell_later(CHECK_S, Tick())
        await self._start_engine()

    async def on_receive(self, message: RunnerMessage) -> None:
        """See each message's own docstring."""
        match message:
            case Dispatch():
                self._dispatch(message)
            case Terminated(ref=request):
                self._cancel(self._roster.remove_owner(request))
            case EngineSaid() | EngineLost() | Undelivered():
                if message.launch == self._launches:  # else that process is gone, and was seen to
                    await self._follow(message)
            case Launch():
                await self._start_engine()
            case Tick():
                self._check()

    async def on_stop(self) -> None:
        """Stop the engine in an orderly way; its requests are told."""
        self._enter(PhaseChange(phase=Phase.DRAINING, reason="the instance is being stopped"))
        self._refuse_all(RefusalCode.ENGINE_LOST, "the instance was stopped")
        if self._link is not None:
            await self._link.stop(self._settings.patience_s)

    async def on_end(self, cause: BaseException | None) -> None:
        """However this actor ends: nobody waits for it any more, and no engine outlives it."""
        self._launches += 1
        self._refuse_all(RefusalCode.ENGINE_LOST, "the instance's runner ended")
        self._bus.withdraw(self._state.key)
        if self._link is not None:
            await self._link.kill_and_wait()

    # -- the engine's life -----------------------------------------------------------------------

    async def _start_engine(self) -> None:
        self._launches += 1
        launch = self._launches
        me = self.actor_ref
        self._enter(PhaseChange(phase=Phase.CONNECTING, reason="starting the engine process"))
        self._watchdog = Watchdog(self._settings.deadlines, time.monotonic())
        self._link = await EngineLink.start(
            self._bus,
            said=lambda body: me.post(EngineSaid(launch, body)),
            lost=lambda code: me.post(EngineLost(launch, code)),
            undelivered=lambda sequences, reason: me.post(Undelivered(launch, sequences, reason)),
        )

    async def _follow(self, message: EngineSaid | EngineLost | Undelivered) -> None:
        match message:
            case EngineSaid(body=body):
                self._heard(body)
            case EngineLost(code=code):
                await self._lost(code)
            case Undelivered(sequences=sequences, reason=reason):
                self._undelivered(sequences, reason)

    def _heard(self, body: FromEngine) -> None:
        match body:
            case Step():
                self._deliver(body)
            case Accepted(sequence=sequence) | Refused(sequence=sequence):
                self._tell(sequence, body)
            case Beat():
                self._watchdog.beaten(body, time.monotonic())
                self._state.beat = body
                self._publish()
            case PhaseChange():
                self._watchdog.phase_changed(body, time.monotonic())
                self._enter(body)
                if body.phase is Phase.READY:
                    self._submit_queued()
                elif body.phase is Phase.FAILED:
                    self._refuse_all(RefusalCode.ENGINE_FAILED, body.reason)
                    self._retire()
            case Hello():
                logger.info("engine %d of %s is there: %s", body.pid, self._instance.model, body.versions)
                self._load()

    def _load(self) -> None:
        assert self._link is not None
        self._link.command(
            Load(
                path=self._instance.path,
                context=self._instance.context,
                max_running=self._settings.max_running,
                pace_s=self._settings.pace_s,
            )
        )

    def _retire(self) -> None:
        """An engine that failed ends by itself; see to it that it does."""
        assert self._link is not None
        self._link.retire(self._settings.patience_s)

    async def _lost(self, code: int | None) -> None:
        """The engine is gone. Start it again, unless it said that its fault is permanent."""
        assert self._link is not None
        how = self._link.describe_end(code)
        self._launches += 1  # whatever that process still says no longer counts
        await self._link.kill_and_wait()
        for sequence, request in self._roster.lose_engine():
            request.post(Refused(sequence=sequence, refusal=_engine_lost(how)))
        if self._state.phase is Phase.FAILED:
            return
        state = self._state
        state.failures = 1 if state.held_for_s() > STEADY_S else state.failures + 1
        state.beat = IDLE
        wait_s = ENGINE_RESTARTS.wait_s(state.failures)
        if wait_s is None:
            reason = f"{how}; it was started {state.failures} times: see the log for why it ends"
            self._enter(PhaseChange(phase=Phase.FAILED, reason=reason))
            self._refuse_all(RefusalCode.ENGINE_FAILED, reason)
        else:
            logger.warning("instance %s of %s: %s", self._instance.id, self._instance.model, how)
            self._enter(PhaseChange(phase=Phase.WAITING, reason=f"{how}; starting it again"))
            self.tell_later(wait_s, Launch())

    def _check(self) -> None:
        self.tell_later(CHECK_S, Tick())
        if self._link is None or self._state.phase in _UNWATCHED:
            return
        stuck = self._watchdog.overdue(time.monotonic())
        if stuck is not None:
            self._link.give_up(stuck)

    # -- requests --------------------------------------------------------------------------------

    def _dispatch(self, message: Dispatch) -> None:
        refusal = self._refusal(len(message.submits))
        if refusal is not None:
            for submit in message.submits:
                message.request.post(Refused(sequence=submit.sequence, refusal=refusal))
            return
        self._roster.add(message.submits, message.request)
        message.request.watch(self.actor_ref)
        if self._state.phase is Phase.READY:
            self._submit_queued()
        else:
            message.request.post(self._state.changed())

    def _refusal(self, count: int) -> Refusal | None:
        if self._state.phase is Phase.FAILED:
            return Refusal(RefusalCode.ENGINE_FAILED, self._state.change.reason)
        if self._state.phase is Phase.DRAINING:
            return _engine_lost("the instance is being stopped")
        if not self._roster.takes(count):
            waiting = f"{len(self._roster)} sequences run or wait already, of {self._settings.max_sequences}"
            return Refusal(RefusalCode.OVERLOADED, f"too many requests: {waiting}", retry_after_s=5.0)
        return None

    def _submit_queued(self) -> None:
        assert self._link is not None
        for submit in self._roster.drain():
            self._link.command(submit)

    def _deliver(self, step: Step) -> None:
        for prefilled in step.prefilled:
            self._tell(prefilled.sequence, prefilled)
        for delta in step.deltas:
            self._tell(delta.sequence, delta)
            if delta.finish is not None:
                self._roster.remove(delta.sequence)

    def _tell(self, sequence: SequenceId, message: RequestMessage) -> None:
        request = self._roster.owner(sequence)
        if request is not None and not request.post(message) and request.is_alive():
            # Only a Request that no longer runs can fall so far behind; its tokens would have a hole.
            request.kill("it does not take its tokens")
        if isinstance(message, Refused):
            self._roster.remove(sequence)

    def _undelivered(self, sequences: tuple[SequenceId, ...], reason: str) -> None:
        for sequence in sequences:
            self._tell(sequence, Refused(sequence=sequence, refusal=_engine_lost(reason)))

    def _cancel(self, sequences: tuple[SequenceId, ...]) -> None:
        if sequences and self._link is not None:
            self._link.cancel(sequences)

    def _refuse_all(self, code: RefusalCode, reason: str) -> None:
        for sequence, request in self._roster.clear():
            request.post(Refused(sequence=sequence, refusal=Refusal(code, reason)))

    # -- what is shown ---------------------------------------------------------------------------

    def _enter(self, change: PhaseChange) -> None:
        if self._state.enter(change):
            level = logging.ERROR if change.phase is Phase.FAILED else logging.INFO
            logger.log(level, "%s is %s: %s", self._instance.model, change.phase, change.reason)
        self._publish()
        changed = self._state.changed()
        self._directory.post(names.PLACEMENT, changed)
        for request in self._roster.waiting_owners():
            request.post(changed)

    def _publish(self) -> None:
        self._bus.publish(self._state.key, self._state.fact())


def _engine_lost(how: str) -> Refusal:
    return Refusal(RefusalCode.ENGINE_LOST, f"the request lost its engine: {how}", retry_after_s=1.0)
