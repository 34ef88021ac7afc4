"""The Runner actor: owns one engine process, from its start through its phases to its end."""

import logging
import time

from actors import names
from actors.downloader import StoreSilent
from actors.kernel.actor import LoopActor
from actors.kernel.directory import Directory
from actors.kernel.lifecycle import Terminated
from actors.messages import (
    Abandon,
    Dispatch,
    Drain,
    EngineLost,
    EngineSaid,
    Launch,
    RankTold,
    RunnerMessage,
    Tick,
    Undelivered,
)
from actors.retry import ENGINE_RESTARTS
from actors.running.desk import Desk, engine_lost, perhaps_taken, untaken
from actors.running.engine_link import EngineLink
from actors.running.epoch import Epoch
from actors.running.files import find_files
from actors.running.instance_state import IDLE, InstanceState
from actors.running.runner_settings import RunnerSettings
from actors.running.watchdog import Watchdog
from actors.stock import take_engine
from bus.bus import Bus
from bus.messages.base import NodeId, SequenceId
from bus.messages.engine import (
    Accepted,
    Beat,
    Bound,
    FromEngine,
    Hello,
    Phase,
    PhaseChange,
    Refused,
    Step,
)
from bus.messages.placement import Instance

logger = logging.getLogger(__name__)

CHECK_S = 0.5
"""How often the watchdog looks."""

LATE_S = 1.5
"""A look that comes so late says more of this process than of the engine."""

STEADY_S = 60.0
"""An engine that was ready for so long counts as well: earlier failures are forgotten."""

_UNWATCHED = frozenset({Phase.WAITING, Phase.STOPPED, Phase.FAILED})
"""Phases in which no engine runs, or one whose end has a deadline of its own."""


class Runner(LoopActor[RunnerMessage]):
    """One rank of one epoch of an instance.

    Rank 0 takes requests, at any time: what comes before the engine is ready waits, and is told why. It
    watches each Request; one that ends before its sequences did has them cancelled. An engine that is alone
    is started again when it ends; where there are several ranks, the loss of one ends the epoch for all: the
    engine is killed, and the coordinator declares the next epoch.
    """

    mailbox_bound = 100_000

    def __init__(
        self, instance: Instance, node: NodeId, bus: Bus, directory: Directory, settings: RunnerSettings
    ) -> None:
        super().__init__()
        self._instance, self._bus, self._directory, self._settings = instance, bus, directory, settings
        self._state = InstanceState(instance, node)
        self._epoch = Epoch(self._state, bus, settings, lambda told: self.actor_ref.post(told))
        self._desk = Desk(settings.max_sequences)
        self._watchdog = Watchdog(settings.deadlines, time.monotonic())
        self._link: EngineLink | None = None
        self._launches = 0
        self._checked = time.monotonic()
        self._drain_by: float | None = None

    async def on_start(self) -> None:
        """Start the first engine process."""
        if self._leads:
            name = names.door(self._instance.id, self._instance.epoch)
            self._directory.register(name, self.actor_ref)
        self._epoch.follow()
        self.tell_later(CHECK_S, Tick())
        await self._start_engine()

    async def on_receive(self, message: RunnerMessage) -> None:
        """See each message's own docstring."""
        match message:
            case Dispatch():
                self._dispatch(message)
            case Abandon(sequences=sequences):
                self._cancel(self._desk.abandon(sequences))
            case Terminated(ref=request):
                self._cancel(self._desk.forget(request))
            case EngineSaid() | EngineLost() | Undelivered():
                if message.launch == self._launches:  # else that process is gone, and was seen to
                    await self._follow(message)
            case RankTold(rank=rank, fact=fact):
                self._epoch.ranks.tell(rank, fact)
                await self._consider_ranks()
            case Drain(within_s=within_s):
                self._drain(within_s)
            case Launch():
                await self._start_engine()
            case Tick():
                self._check()

    async def on_stop(self) -> None:
        """Stop the engine in an orderly way; its requests are told, and go on elsewhere if they can."""
        if self._state.phase not in (Phase.FAILED, Phase.WAITING):
            self._enter(PhaseChange(phase=Phase.DRAINING, reason="the instance is being stopped"))
        self._desk.refuse_all(engine_lost("the instance was stopped"))
        if self._link is not None:
            await self._link.stop(self._settings.patience_s)

    async def on_end(self, cause: BaseException | None) -> None:
        """However this actor ends: nobody waits for it any more, and no engine outlives it."""
        self._launches += 1
        self._desk.refuse_all(engine_lost("the instance's runner ended"))
        self._epoch.withdraw()
        if self._link is not None:
            await self._link.kill_and_wait()

    @property
    def _leads(self) -> bool:
        return self._state.rank == 0

    # -- the engine's life -----------------------------------------------------------------------

    async def _start_engine(self) -> None:
        self._launches += 1
        launch = self._launches
        me = self.actor_ref
        self._watchdog = Watchdog(self._settings.deadlines, time.monotonic())
        self._enter(PhaseChange(phase=Phase.CONNECTING, reason="starting the engine process"))
        try:
            self._link = link = await take_engine(self._directory, self._bus)
        except OSError as error:
            await self._recover(f"no engine process can be started: {error}")
            return
        link.attach(
            said=lambda body: me.post(EngineSaid(launch, body)),
            lost=lambda code: me.post(EngineLost(launch, code)),
            untaken=lambda sequence, error: me.post(Undelivered(launch, sequence, error)),
        )

    async def _follow(self, message: EngineSaid | EngineLost | Undelivered) -> None:
        match message:
            case EngineSaid(body=body):
                await self._heard(body)
            case EngineLost(code=code):
                await self._lost(code)
            case Undelivered(sequence=sequence, error=error):
                if perhaps_taken(error):
                    self._cancel((sequence,))
                self._desk.refuse((sequence,), untaken(error))

    async def _heard(self, body: FromEngine) -> None:
        match body:
            case Step():
                self._desk.deliver(body)
            case Accepted(sequence=sequence) | Refused(sequence=sequence):
                self._desk.tell(sequence, body)
            case Beat() if self._state.phase is Phase.FAILED:
                pass  # it is about to end
            case Beat():
                self._watchdog.beaten(body, time.monotonic())
                self._state.beat = body
                self._publish()
            case PhaseChange():
                self._phase_changed(body)
            case Bound():
                self._state.bound = body
                self._watchdog.awaits_ranks(time.monotonic())
                self._publish()
                await self._consider_ranks()
            case Hello():
                self._watchdog.arrived(time.monotonic())
                logger.info("engine %d of %s is there: %s", body.pid, self._instance.model, body.versions)
                await self._load()

    def _phase_changed(self, change: PhaseChange) -> None:
        if change.phase is Phase.WAITING:
            return  # for other ranks: what they are doing, the Runner knows better
        self._watchdog.phase_changed(change, time.monotonic())
        self._state.permanent = change.phase is Phase.FAILED
        if change.phase is Phase.READY and self._drain_by is not None:
            return
        if change.phase is Phase.FAILED:
            self._state.beat = IDLE
        self._enter(change)
        if change.phase is Phase.READY:
            self._submit_queued()
        elif change.phase is Phase.FAILED:
            self._desk.refuse_all(self._state.failure(change.reason))
            assert self._link is not None
            # An engine that failed ends by itself; see to it that it does.
            self._link.retire(self._settings.patience_s)

    async def _load(self) -> None:
        assert self._link is not None
        try:
            files = await find_files(
                self._directory, self._instance, guesses=self._leads and self._settings.speculate
            )
        except StoreSilent as silent:
            self._link.give_up(str(silent))
            return
        if files is None:
            reason = f"there is no whole copy of {self._instance.model} here: copy its folder to this machine"
            await self._fail(reason, permanent=True)
            return
        self._state.without = files.without
        hurry = self._instance.epoch > 1 or self._state.failures > 0
        self._link.command(self._epoch.load(files, time.monotonic(), hurry=hurry))

    async def _lost(self, code: int | None) -> None:
        """The engine is gone. Start it again, unless it said that its fault is permanent."""
        assert self._link is not None
        how = self._link.describe_end(code)
        self._launches += 1  # whatever that process still says no longer counts
        await self._link.kill_and_wait()
        self._desk.refuse_lost(how)
        if self._state.phase is not Phase.FAILED:
            await self._recover(how)

    async def _recover(self, how: str) -> None:
        """Try again, where this rank is alone; else the next epoch is the coordinator's to declare."""
        if not self._state.alone:
            await self._fail(how, permanent=False)
            return
        state = self._state
        state.failures = 1 if state.held_for_s() > STEADY_S else state.failures + 1
        state.beat = IDLE
        wait_s = ENGINE_RESTARTS.wait_s(state.failures)
        if wait_s is None:
            await self._fail(
                f"{how}; it was started {state.failures} times: see the log for why it ends", permanent=True
            )
        else:
            logger.warning("instance %s of %s: %s", self._instance.id, self._instance.model, how)
            self._enter(PhaseChange(phase=Phase.WAITING, reason=f"{how}; starting it again"))
            self.tell_later(wait_s, Launch())

    async def _fail(self, reason: str, permanent: bool) -> None:
        """This rank can't go on in this epoch: nothing of it runs from here on."""
        self._launches += 1
        self._state.beat, self._state.permanent = IDLE, permanent
        self._enter(PhaseChange(phase=Phase.FAILED, reason=reason))
        self._desk.refuse_all(self._state.failure(reason))
        if self._link is not None:
            await self._link.kill_and_wait()

    async def _consider_ranks(self) -> None:
        """Connect once all ranks listen; end the epoch when one of them is lost."""
        if self._link is None or self._state.phase is Phase.FAILED:
            return
        broken = self._epoch.ranks.broken
        if broken is not None and self._drain_by is not None:
            self.stop()
        elif broken is not None:
            logger.warning("instance %s of %s: %s", self._instance.id, self._instance.model, broken)
            await self._fail(broken, permanent=False)
        elif self._state.bound is not None and self._state.phase is Phase.CONNECTING:
            self._connect()

    def _connect(self) -> None:
        assert self._link is not None
        connect = self._epoch.connect()
        if connect is not None:
            self._watchdog.awaits_connections(time.monotonic())
            self._link.command(connect)
        elif not self._epoch.connected:
            self._enter(PhaseChange(phase=Phase.CONNECTING, reason=self._epoch.ranks.missing))

    def _check(self) -> None:
        self.tell_later(CHECK_S, Tick())
        if self._drain_by is not None:
            self._go_on_draining()
        now = time.monotonic()
        before, self._checked = self._checked, now
        if self._link is None or self._state.phase in _UNWATCHED:
            return
        if now - before > LATE_S:  # it was this process that stood still: the engine's words may wait unread
            self._watchdog.woke(now)
            return
        if (budget := self._epoch.allowance.news(now)) is not None:
            self._link.command(budget)
        stuck = self._watchdog.overdue(now)
        if stuck is not None:
            missing = "" if self._epoch.connected else self._epoch.ranks.missing
            self._link.give_up(f"{stuck}: {missing}" if missing else stuck)

    def _drain(self, within_s: float) -> None:
        if self._drain_by is None:
            self._drain_by = time.monotonic() + within_s
            self._enter(PhaseChange(phase=Phase.DRAINING, reason="it ends when its requests have ended"))
            self._desk.refuse_queued(engine_lost("the instance is being stopped"))
            self._go_on_draining()

    def _go_on_draining(self) -> None:
        assert self._drain_by is not None
        # Other ranks end with rank 0, which alone knows whether somebody still waits for an answer.
        over = self._leads and not len(self._desk)
        if over or time.monotonic() > self._drain_by:
            self.stop()

    # -- requests --------------------------------------------------------------------------------

    def _dispatch(self, message: Dispatch) -> None:
        if not self._desk.take(message, self._state.refusal()):
            return
        message.request.watch(self.actor_ref)
        if self._state.phase is Phase.READY:
            self._submit_queued()
        else:
            message.request.post(self._state.changed())

    def _submit_queued(self) -> None:
        assert self._link is not None
        for submit in self._desk.queued():
            self._link.command(submit)

    def _cancel(self, sequences: tuple[SequenceId, ...]) -> None:
        if sequences and self._link is not None:
            self._link.cancel(sequences)

    # -- what is shown ---------------------------------------------------------------------------

    def _enter(self, change: PhaseChange) -> None:
        if self._state.enter(change):
            level = logging.ERROR if change.phase is Phase.FAILED else logging.INFO
            logger.log(level, "%s is %s: %s", self._instance.model, change.phase, change.reason)
        self._publish()
        changed = self._state.changed()
        for request in self._desk.waiting():
            request.post(changed)

    def _publish(self) -> None:
        self._epoch.publish()
