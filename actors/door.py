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
    Relay,
    RelayMessage,
    Settled,
    Tick,
    Undispatched,
)
from actors.relays import Relays
from actors.running.desk import Desk, engine_lost, perhaps_taken, untaken
from bus.cluster import Member
from bus.errors import BusError
from bus.mesh import Mesh
from bus.messages.base import SequenceId
from bus.messages.engine import PhaseChange, Step, Submit
from bus.messages.peers import Abandoned, Audit, Audited, Dispatched, Relayed
from bus.messages.placement import Instance

COMMAND_TIMEOUT_S = 10.0
"""Another node answers as soon as its event loop has read the command."""

AUDIT_S = 2.0
"""How often it is asked whether anything was lost on the way, while somebody waits."""

DoorsOwn: TypeAlias = (
    DoorMessage | RelayMessage | Audited | Terminated | NodeLeft | Undispatched | Settled | Tick
)


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
        self._owed: set[SequenceId] = set()
        """Nobody here wants these any more, and the other node has yet to say that it knows."""
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
                self._settle()
            case _:
                self._hear(message)

    def _hear(self, message: Relay | Audited | Undispatched | Settled | NodeLeft) -> None:
        match message:
            case Relay(node=node, relayed=relayed):
                # After a split, another node may lead an epoch of the same number.
                if node == self._node:
                    self._follow(relayed)
            case Audited():
                if not self._relays.agrees(message):
                    self._lose("its answers were cut off")
            case Undispatched(sequence=sequence, error=error):
                self._desk.refuse((sequence,), untaken(error))
                if perhaps_taken(error):
                    self._owed.add(sequence)
            case Settled(sequences=sequences):
                self._owed.difference_update(sequences)
            case NodeLeft(node=node, why=why):
                if node == self._node:
                    # Perhaps only we have lost sight of it: it may go on with what nobody waits for.
                    self._owed.update(self._desk.sequences())
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
        for submit in self._desk.queued():  # one by one: together they may be too large for one message
            self._go(self._send(submit))

    def _abandon(self, sequences: tuple[SequenceId, ...]) -> None:
        self._owed.update(sequences)
        if self._owed and self._node in self._mesh.members:
            self._go(self._send_abandoned(tuple(self._owed)))

    def _settle(self) -> None:
        """See whether what was said on both sides has arrived."""
        if len(self._desk):
            self._go(self._audit())
        self._abandon(())

    def _follow(self, relayed: Relayed) -> None:
        if self._relays.follows(relayed):
            self._deliver(relayed)
        else:
            self._lose("some of its tokens were lost on the way")

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
        step = Step(number=0, deltas=relayed.deltas, prefilled=relayed.prefilled, queued=relayed.queued)
        self._desk.deliver(step)
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

    async def _send(self, submit: Submit) -> None:
        body = Dispatched(self._instance.id, self._instance.epoch, (submit,))
        try:
            await self._mesh.command(self._node, body, COMMAND_TIMEOUT_S)
        except BusError as error:
            self.actor_ref.post(Undispatched(submit.sequence, error))

    async def _send_abandoned(self, sequences: tuple[SequenceId, ...]) -> None:
        body = Abandoned(self._instance.id, self._instance.epoch, sequences)
        try:
            await self._mesh.command(self._node, body, COMMAND_TIMEOUT_S)
        except BusError:
            return  # it stays owed
        self.actor_ref.post(Settled(sequences))


def _joined(_member: Member) -> None:
    """Who comes is of no interest here: what it asks will show."""
