"""The Envoy actor: stands for the requests of another node before a Runner of this one."""

import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from actors.kernel.actor import LoopActor
from actors.kernel.lifecycle import Terminated
from actors.messages import CountRelays, Flush, InstanceChanged, RequestMessage
from bus.errors import BusError
from bus.messages.base import InstanceId, SequenceId
from bus.messages.engine import Accepted, PhaseChange, Prefilled, Queued, Refused
from bus.messages.generation import Delta
from bus.messages.peers import Audited, Relayed

logger = logging.getLogger(__name__)

EnvoyMessage: TypeAlias = RequestMessage | Flush | CountRelays


@dataclass(slots=True)
class _Said:
    """What is to be passed on with the next message."""

    changed: PhaseChange | None = None
    accepted: list[Accepted] = field(default_factory=list)
    prefilled: list[Prefilled] = field(default_factory=list)
    deltas: list[Delta] = field(default_factory=list)
    queued: dict[SequenceId, Queued] = field(default_factory=dict)
    refused: list[Refused] = field(default_factory=list)


class Envoy(LoopActor[EnvoyMessage]):
    """To the Runner it is one more Request. What it is told at once, such as a step's deltas, leaves as one
    message. When its node is gone it is killed, and the Runner, which watches it, cancels what it stood
    for."""

    mailbox_bound = 100_000

    def __init__(self, instance: InstanceId, epoch: int, notify: Callable[[Relayed], bool]) -> None:
        super().__init__()
        self._instance, self._epoch, self._notify = instance, epoch, notify
        self._said: _Said | None = None
        self._name = secrets.token_hex(8)
        self._number = 0

    def on_receive(self, message: EnvoyMessage) -> Audited | None:
        """Collect, and pass on once all that was said at the same time is here."""
        match message:
            case CountRelays():
                return Audited(self._name, self._number)
            case Flush():
                self._flush()
            case Delta() | Prefilled() | Queued() | Accepted() | Refused():
                self._collect(message)
            case InstanceChanged(phase=phase, reason=reason, progress=progress):
                self._pending().changed = PhaseChange(phase=phase, reason=reason, progress=progress)
            case Terminated():
                self.stop()
            case _:
                raise TypeError(f"an Envoy has no use for {type(message).__name__}")
        return None

    def _collect(self, message: Delta | Prefilled | Queued | Accepted | Refused) -> None:
        said = self._pending()
        said.queued.pop(message.sequence, None)
        match message:
            case Delta():
                said.deltas.append(message)
            case Prefilled():
                said.prefilled.append(message)
            case Queued():
                said.queued[message.sequence] = message
            case Accepted():
                said.accepted.append(message)
            case Refused():
                said.refused.append(message)

    def _pending(self) -> _Said:
        if self._said is None:
            self._said = _Said()
            # It comes after all that the Runner has left in the mailbox in the same turn.
            self.actor_ref.tell(Flush())
        return self._said

    def _flush(self) -> None:
        said, self._said = self._said, None
        if said is None:
            return
        self._number += 1
        relayed = Relayed(
            instance=self._instance,
            epoch=self._epoch,
            changed=said.changed,
            accepted=tuple(said.accepted),
            prefilled=tuple(said.prefilled),
            deltas=tuple(said.deltas),
            queued=tuple(said.queued.values()),
            refused=tuple(said.refused),
            envoy=self._name,
            number=self._number,
        )
        try:
            sent = self._notify(relayed)
        except BusError as error:
            logger.warning("what a step brought could not be sent: %s", error)
            sent = False
        if not sent:
            # Tokens with a hole are worse than none: the other node finds this one gone, and asks again.
            self.actor_ref.kill("its node does not take its tokens")
