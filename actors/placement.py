"""The Placement actor: owns the declared instances, and has a model placed when somebody wants it."""

import logging
import secrets
import time
from dataclasses import dataclass

from actors import names
from actors.actor import ThreadActor
from actors.directory import Directory
from actors.messages import FindModel, InstanceChanged, PlacementMessage, ReadMemory
from actors.placement_policy import fit
from bus.bus import Bus
from bus.messages.base import InstanceId, ModelId, NodeId
from bus.messages.engine import Phase
from bus.messages.facts import InstanceFact, Memory
from bus.messages.generation import Refusal, RefusalCode
from bus.messages.placement import Declared, Instance, NotServed, Serving, Want, Withdrawn
from models.store import StoredModel

logger = logging.getLogger(__name__)

STORE_TIMEOUT_S = 20.0
"""Looking through the models directories may take a slow disk so long."""

_LOADED = frozenset({Phase.WARMING, Phase.READY, Phase.DRAINING})
"""Phases in which what an instance holds shows in the machine's free memory."""


@dataclass(slots=True)
class _Placed:
    """A declared instance, the model it was made from, and where it is in its life."""

    instance: Instance
    model: StoredModel
    phase: Phase = Phase.WAITING
    reason: str = ""


class Placement(ThreadActor[PlacementMessage]):
    """Places each model at most once. A model that failed is tried anew only when its folder has changed:
    its fault is permanent until then, and whoever wants it is told so."""

    def __init__(self, node: NodeId, bus: Bus, directory: Directory, wishes: tuple[Want, ...]) -> None:
        super().__init__()
        self._node, self._bus, self._directory = node, bus, directory
        self._wishes = wishes
        self._placed: dict[ModelId, _Placed] = {}

    def on_start(self) -> None:
        """Take over what runs already, if this is a restart; then place what the node was started with.

        What can't be placed is shown as a failed instance.
        """
        self._adopt()
        for wish in self._wishes:
            answer = self._want(wish)
            if isinstance(answer, NotServed):
                logger.error("%s", answer.refusal.message)
                self._show_failed(wish.model, answer.refusal)

    def on_receive(self, message: PlacementMessage) -> Serving | NotServed | None:
        """Answer a wish, or note how an instance does."""
        match message:
            case Want():
                return self._want(message)
            case InstanceChanged(instance, phase, reason):
                for placed in self._placed.values():
                    if placed.instance.id == instance:
                        placed.phase, placed.reason = phase, reason
                return None

    def _adopt(self) -> None:
        for fact in self._bus.view.facts().values():
            if not isinstance(fact, InstanceFact) or fact.epoch == 0 or self._node not in fact.nodes:
                continue
            model = self._find(fact.model)
            if model is not None:
                instance = Instance(
                    id=fact.id,
                    epoch=fact.epoch,
                    model=fact.model,
                    path=str(model.folder),
                    nodes=fact.nodes,
                    context=fact.context or 0,
                    needed_bytes=fact.active_bytes,
                )
                self._placed[fact.model] = _Placed(instance, model, fact.phase, fact.reason)

    def _want(self, want: Want) -> Serving | NotServed:
        placed = self._placed.get(want.model)
        if placed is not None and placed.phase is not Phase.FAILED:
            return Serving(instance=placed.instance.id)
        model = self._find(want.model)
        if model is None:
            return NotServed(refusal=_unknown(want.model))
        if placed is not None:
            if model == placed.model:
                return NotServed(refusal=_failed(placed))
            self._withdraw(placed)
        return self._place(want, model)

    def _place(self, want: Want, model: StoredModel) -> Serving | NotServed:
        room = fit(model, self._memory(), self._promised_bytes(), want.context)
        if isinstance(room, Refusal):
            return NotServed(refusal=room)
        instance = Instance(
            id=InstanceId(secrets.token_hex(4)),
            epoch=1,
            model=model.id,
            path=str(model.folder),
            nodes=(self._node,),
            context=room.context,
            needed_bytes=room.needed_bytes,
        )
        self._placed[model.id] = _Placed(instance, model)
        self._directory.post(names.SUPERVISOR, Declared(instance=instance))
        logger.info("model %s is placed as instance %s, context %d", model.id, instance.id, room.context)
        return Serving(instance=instance.id)

    def _withdraw(self, placed: _Placed) -> None:
        del self._placed[placed.instance.model]
        self._directory.post(names.SUPERVISOR, Withdrawn(instance=placed.instance.id))

    def _promised_bytes(self) -> int:
        """What placed instances will take that free memory does not show yet."""
        return sum(
            placed.instance.needed_bytes
            for placed in self._placed.values()
            if placed.phase not in _LOADED and placed.phase is not Phase.FAILED
        )

    def _find(self, model: ModelId) -> StoredModel | None:
        found = self._directory.get(names.DOWNLOADER).ask(FindModel(model), timeout=STORE_TIMEOUT_S)
        return found if isinstance(found, StoredModel) else None

    def _memory(self) -> Memory:
        memory = self._directory.get(names.TOPOLOGY).ask(ReadMemory())
        if not isinstance(memory, Memory):
            raise TypeError(f"Topology answered {memory!r}")
        return memory

    def _show_failed(self, model: ModelId, refusal: Refusal) -> None:
        fact = InstanceFact(
            id=InstanceId(f"unplaced-{secrets.token_hex(4)}"),
            epoch=0,
            model=model,
            nodes=(self._node,),
            phase=Phase.FAILED,
            reason=refusal.message,
            since=time.time(),
        )
        self._bus.publish(f"instance/{fact.id}", fact)


def _unknown(model: ModelId) -> Refusal:
    return Refusal(
        RefusalCode.MODEL_NOT_FOUND,
        f"model '{model}' is not here: GET /v1/models lists what is; copy its folder into a models directory",
        param="model",
    )


def _failed(placed: _Placed) -> Refusal:
    return Refusal(
        RefusalCode.ENGINE_FAILED, f"model '{placed.instance.model}' can't be served: {placed.reason}"
    )
