"""The Door actor: leads requests to an instance whose rank 0 is on another node."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import TypeAlias

from actors import names
from actors.kernel.actor import LoopActor
from actors.kernel.directory import Directory
from actors.kernel.lifecycle import Terminated
from actors.messages import (
    Abandon,
    Dispatch,
    DoorMessage,
    InstanceChanged,
    NodeLeft,
    RelayMessage,
    Tick,
    Undispatched,
)
from actors.relays import Relays
from actors.running.desk import Desk, engine_lost
from bus.cluster import Member
from bus.errors import BusError, Refused
from bus.mesh import Mesh
from bus.messages.base import SequenceId
from bus.messages.engine import PhaseChange, Step
from bus.messages.generation import RefusalCode
from bus.messages.peers import Abandoned, Audit, Audited, Dispatched, Relayed
from bus.messages.placement import Instance

COMMAND_TIMEOUT_S = 10.0
"""Another node answers as soon as its event loop has read the command."""

AUDIT_S = 2.0
"""How often it is asked whether anything was lost on the way, while somebody waits."""

DoorsOwn: TypeAlias = DoorMessage | RelayMessage | Audited | Terminated | NodeLeft | Undispatched | Tick


class Door(LoopActor[DoorsOwn]):
    """Looks to a Request like the Runner itself. It watches the Requests that it let through: one that ends
    has its sequences abandoned over there. When the other node is gone, or something of what it said was
    lost, they are told so, and go on from the tokens that they have."""

    mailbox_bound = 100_000

    def __init__(self, instance: Instance, mesh: Mesh, directory: Directory, bound: int) -> None:
        super().__init__()
        self._instance, self._mesh, self._directory = instance, mesh, directory
        self._node = instance.nodes[0]
        self._desk = Desk(bound)
        self._relays = Relays()
        self._tasks: set[asyncio.Task[None]] = set()
        self._unlisten: Callable[[], None] | None = None

    def on_start(self) -> None:
        """Take what the other node relays, and hear of its loss."""
        me = self.actor_ref
        self._directory.register(names.relay(self._instance.id, self._instance.epoch), me)
        self._unlisten = self._mesh.on_change(_joined, self._left)
        self.tell_later(AUDIT_S, Tick())

    def _left(self, member: Member, why: str) -> None:
        self.actor_ref.post(NodeLeft(member.id, why))

    def on_receive(self, message: DoorsOwn) -> None:
        """See each message's own docstring."""
        match message:
            case Dispatch():
                self._dispatch(message)
            case Abandon(sequences=sequences):
                self._abandon(self._desk.abandon(sequences))
            case Terminated(ref=request):
                self._abandon(self._desk.forget(request))
            case Tick():
                self.tell_later(AUDIT_S, Tick())
                if len(self._desk):
                    self._go(self._audit())
            case _:
                self._hear(message)

    def _hear(self, message: Relayed | Audited | Undispatched | NodeLeft) -> None:
        match message:
            case Relayed():
                if self._relays.follows(message):
                    self._deliver(message)
                else:
                    self._lose("some of its tokens were lost on the way")
            case Audited():
                if not self._relays.agrees(message):
                    self._lose("its answers were cut off")
            case Undispatched(sequences=sequences, refusal=refusal):
                self._desk.refuse(sequences, refusal)
            case NodeLeft(node=node, why=why):
                if node == self._node:
                    self._desk.refuse_all(engine_lost(f"its node left: {why}"))

    def on_end(self, cause: BaseException | None) -> None:
        """Nobody hears of these sequences any more."""
        if self._unlisten is not None:
            self._unlisten()
        self._desk.refuse_all(engine_lost("the instance is being placed anew"))
        for task in self._tasks:
            task.cancel()

    def _dispatch(self, message: Dispatch) -> None:
        if self._node not in self._mesh.members:
            self._desk.take(message, engine_lost("its node is not there"))
            return
        if not self._desk.take(message, None):
            return
        message.request.watch(self.actor_ref)
        submits = tuple(self._desk.queued())
        sequences = tuple(submit.sequence for submit in submits)
        self._go(self._command(Dispatched(self._instance.id, self._instance.epoch, submits), sequences))

    def _abandon(self, sequences: tuple[SequenceId, ...]) -> None:
        if sequences:
            self._go(self._command(Abandoned(self._instance.id, self._instance.epoch, sequences), ()))

    def _lose(self, why: str) -> None:
        """What is on its way has a hole: nothing of it is wanted any more."""
        sequences = self._desk.sequences()
        self._desk.refuse_all(engine_lost(why))
        self._abandon(sequences)

    def _deliver(self, relayed: Relayed) -> None:
        if relayed.changed is not None:
            self._show(relayed.changed)
        for accepted in relayed.accepted:
            self._desk.tell(accepted.sequence, accepted)
        self._desk.deliver(Step(number=0, deltas=relayed.deltas, prefilled=relayed.prefilled))
        for refused in relayed.refused:
            self._desk.tell(refused.sequence, refused)

    def _show(self, change: PhaseChange) -> None:
        changed = InstanceChanged(self._instance.id, change.phase, change.reason, change.progress)
        for request in self._desk.owners():
            request.post(changed)

    def _go(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _audit(self) -> None:
        try:
            answer = await self._mesh.command(
                self._node, Audit(self._instance.id, self._instance.epoch), COMMAND_TIMEOUT_S
            )
        except BusError:
            return  # a node that is gone is noticed anyway, and one that is busy is asked again
        if isinstance(answer, Audited):
            self.actor_ref.post(answer)

    async def _command(self, body: Dispatched | Abandoned, sequences: tuple[SequenceId, ...]) -> None:
        try:
            await self._mesh.command(self._node, body, COMMAND_TIMEOUT_S)
        except Refused as error:
            passing = error.refusal.code is RefusalCode.ENGINE_LOST
            refusal = engine_lost(error.refusal.message) if passing else error.refusal
            self.actor_ref.post(Undispatched(sequences, refusal))
        except BusError as error:
            self.actor_ref.post(Undispatched(sequences, engine_lost(str(error))))


def _joined(_member: Member) -> None:
    """Who comes is of no interest here: what it asks will show."""
