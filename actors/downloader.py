"""The Downloader actor: owns the local store, and says which models this node has."""

import logging
from pathlib import Path

from actors.actor import ThreadActor
from actors.messages import DownloaderMessage, FindModel, Tick
from bus.bus import Bus
from bus.messages.base import ModelId, NodeId
from bus.messages.facts import ModelFact
from models.store import StoredModel, read_folder, scan

logger = logging.getLogger(__name__)

PERIOD_S = 3.0
"""How soon a model that was copied by hand shows up by itself; asked for by name, it is found at once."""


class Downloader(ThreadActor[DownloaderMessage]):
    """Looks through the models directories, and through single folders that were named at the start."""

    def __init__(
        self, node: NodeId, bus: Bus, directories: tuple[Path, ...], folders: tuple[Path, ...] = ()
    ) -> None:
        super().__init__()
        self._node, self._bus = node, bus
        self._directories, self._folders = directories, folders
        self._models: dict[ModelId, StoredModel] = {}

    def on_start(self) -> None:
        """Publish what is there, and look again now and then."""
        self._scan()
        self.tell_later(PERIOD_S, Tick())

    def on_receive(self, message: DownloaderMessage) -> StoredModel | None:
        """Find a model as it lies there now, or look through everything again."""
        match message:
            case FindModel(model):
                self._scan()
                return self._models.get(model)
            case Tick():
                self._scan()
                self.tell_later(PERIOD_S, Tick())
                return None

    def _scan(self) -> None:
        found = {model.id: model for model in scan(self._directories)}
        for folder in self._folders:
            found[model_name(folder)] = read_folder(model_name(folder), folder)
        for name in self._models.keys() - found.keys():
            logger.info("model %s is gone from its folder", name)
            self._bus.withdraw(self._key(name))
        for name, model in found.items():
            if self._models.get(name) != model:
                self._publish(model)
        self._models = found

    def _publish(self, model: StoredModel) -> None:
        if model.problem:
            logger.warning("model %s in %s %s", model.id, model.folder, model.problem)
        fact = ModelFact(
            id=model.id,
            node=self._node,
            path=str(model.folder),
            size_bytes=model.size_bytes,
            architecture=model.card.architecture if model.card else "",
            context=model.card.context if model.card else None,
            created_at=model.created_at,
            quantization=model.card.quantization if model.card else "",
            read_only=model.read_only,
            built_in=model.built_in,
            tools=model.tools,
            problem=model.problem,
        )
        self._bus.publish(self._key(model.id), fact)

    def _key(self, model: ModelId) -> str:
        return f"model/{self._node}/{model}"


def model_name(folder: Path) -> ModelId:
    """What a model that was named by its folder's path is called: the folder's own name."""
    return ModelId(folder.resolve().name)
