"""The Exchange actor: takes what other nodes ask of this one, and hands it to whom it is for."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pykka

from actors import names
from actors.envoy import Envoy, EnvoyMessage
from actors.kernel.actor import LoopActor
from actors.kernel.directory import Directory, NobodyThere
from actors.kernel.lifecycle import Terminated
from actors.kernel.mailbox import MailboxFull
from actors.kernel.reference import Ref
from actors.messages import (
    Abandon,
    CountRelays,
    Dispatch,
    Elsewhere,
    ExchangeMessage,
    NodeLeft,
    PeerAsked,
    Relay,
)
from actors.running.desk import engine_lost
from bus.cluster import Member
from bus.mesh import Mesh
from bus.messages.base import InstanceId, NodeId
from bus.messages.envelope import Body
from bus.messages.generation import Refusal, RefusalCode
from bus.messages.peers import Abandoned, Audit, Audited, Dispatched, Relayed
from bus.messages.placement import Create, Created, Withdraw

logger = logging.getLogger(__name__)

OWN_S = 5.0
"""An actor on the loop answers at once; less than what the asking node waits."""

PLACEMENT_TIMEOUT_S = 30.0
"""Planning over many nodes and models takes far less."""


@dataclass(frozen=True, slots=True)
class _Errand:
    """For whom an Envoy stands, and where."""

    node: NodeId
    instance: InstanceId
    epoch: int


class Exchange(LoopActor[ExchangeMessage]):
    """Has one Envoy for each node and instance that it dispatches to. When a node leaves, its Envoys end."""

    mailbox_bound = 100_000

    def __init__(self, mesh: Mesh, directory: Directory) -> None:
        super().__init__()
        self._mesh, self._directory = mesh, directory
        self._envoys: dict[_Errand, Ref[EnvoyMessage]] = {}
        self._unlisten: Callable[[], None] | None = None

    def on_start(self) -> None:
        """Answer other nodes from now on."""
        self._mesh.serve(self._answer, self._hear)
        self._unlisten = self._mesh.on_change(_joined, self._left)

    def _left(self, member: Member, why: str) -> None:
        self.actor_ref.post(NodeLeft(member.id, why))

    def on_receive(self, message: ExchangeMessage) -> Refusal | None:
        """See each message's own docstring."""
        match message:
            case PeerAsked(node=node, body=body):
                return self._do(node, body)
            case NodeLeft(node=node, why=why):
                for errand, envoy in self._envoys.items():
                    if errand.node == node:
                        envoy.kill(f"its node left: {why}")
            case Terminated(ref=envoy):
                self._envoys = {errand: ref for errand, ref in self._envoys.items() if ref is not envoy}
        return None

    def on_end(self, cause: BaseException | None) -> None:
        """Other nodes are answered by nobody until there is an Exchange again."""
        if self._unlisten is not None:
            self._unlisten()

    def _do(self, node: NodeId, body: Dispatched | Abandoned) -> Refusal | None:
        match body:
            case Dispatched():
                return self._dispatch(node, body)
            case Abandoned(instance=instance, epoch=epoch, sequences=sequences):
                self._directory.post(names.door(instance, epoch), Abandon(sequences))
                return None

    def _dispatch(self, node: NodeId, dispatched: Dispatched) -> Refusal | None:
        name = names.rank(dispatched.instance, dispatched.epoch)
        runner = self._directory.find(name)
        if (
            runner is None
            or self._directory.find(names.door(dispatched.instance, dispatched.epoch)) != runner
        ):
            return engine_lost(f"this node does not lead instance {dispatched.instance} in that epoch")
        envoy = self._envoy(_Errand(node, dispatched.instance, dispatched.epoch))
        runner.watch(envoy)
        if not runner.post(Dispatch(dispatched.submits, envoy)):
            return engine_lost("the instance is being stopped")
        return None

    def _envoy(self, errand: _Errand) -> Ref[EnvoyMessage]:
        envoy = self._envoys.get(errand)
        if envoy is None or not envoy.is_alive():
            notify = partial(self._mesh.notify, errand.node)
            envoy = self.spawn(Envoy, errand.instance, errand.epoch, notify)
            envoy.watch(self.actor_ref)
            self._envoys[errand] = envoy
        return envoy

    # -- called by the bus, on the loop ----------------------------------------------------------

    async def _answer(self, node: NodeId, body: Body) -> Body | Refusal | None:
        match body:
            case Dispatched() | Abandoned():
                return await self._ask_itself(PeerAsked(node, body))
            case Create() | Withdraw():
                return await self._ask_placement(body)
            case Audit(instance=instance, epoch=epoch):
                return await self._audit(_Errand(node, instance, epoch))
            case _:
                return Refusal(RefusalCode.INVALID, f"a node takes no {type(body).__name__} from another")

    async def _ask_itself(self, asked: PeerAsked) -> Refusal | None:
        try:
            return await self.actor_ref.request(asked, (Refusal, type(None)), timeout=OWN_S)
        except (pykka.ActorDeadError, MailboxFull, TimeoutError):
            return engine_lost("its node takes nothing now")

    async def _audit(self, errand: _Errand) -> Audited:
        envoy = self._envoys.get(errand)
        if envoy is None:
            return Audited()
        try:
            return await envoy.request(CountRelays(), Audited)
        except (pykka.ActorDeadError, MailboxFull, TimeoutError):
            return Audited()

    async def _ask_placement(self, body: Create | Withdraw) -> Created | Refusal | None:
        try:
            placement = self._directory.get(names.PLACEMENT)
            reply = (Created, Refusal, Elsewhere, type(None))
            answer = await placement.request(body, reply, timeout=PLACEMENT_TIMEOUT_S)
        except (NobodyThere, pykka.ActorDeadError, MailboxFull):
            return Refusal(RefusalCode.NOT_COORDINATOR, "that node's placement is being started again")
        except TimeoutError:
            return Refusal(RefusalCode.TIMEOUT, "that node's placement did not answer", retry_after_s=1.0)
        if isinstance(answer, Elsewhere):
            return Refusal(RefusalCode.NOT_COORDINATOR, answer.why)
        return answer

    def _hear(self, node: NodeId, body: Body) -> None:
        if isinstance(body, Relayed):
            self._directory.post(names.relay(body.instance, body.epoch), Relay(node, body))
        else:
            logger.warning("%s may not say %s here: dropped", node, type(body).__name__)


def _joined(_member: Member) -> None:
    """Who comes is of no interest here: what it asks will show."""
