"""The Downloader actor: owns the local store, and says which models this node has."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import pykka

from actors import names
from actors.examiner import COMMAND, Examiner
from actors.kernel.actor import ThreadActor
from actors.kernel.directory import Directory, NobodyThere
from actors.kernel.mailbox import MailboxFull
from actors.messages import DownloaderMessage, FindModel, Tick
from bus.bus import Bus
from bus.messages.base import ModelId, NodeId
from bus.messages.facts import ModelFact, Shape
from models.store import StoredModel, read_folder, scan

logger = logging.getLogger(__name__)

GLANCE_S: Final = 3.0
"""A slow disk must not keep this node from deciding: what is known of a model has to do then."""

STORE_TIMEOUT_S: Final = 20.0
"""Looking through the models directories may take a slow disk so long."""

PERIOD_S: Final = 3.0
"""How soon a model that was copied by hand shows up by itself; asked for by name, it is found at once."""

EXAMINING_PERIOD_S: Final = 0.25
"""How often is looked whether an examination is over."""

EXAMINED: Final = "examined.json"
"""The file in the node's data directory that says what is known of models' divisibility."""


class StoreSilent(Exception):
    """What lies in the models directories can't be told now; it may be later."""


class Downloader(ThreadActor[DownloaderMessage]):
    """Looks through the models directories, and through single folders that were named at the start.

    A model is published as soon as it is seen, and once more when it is known how it can be divided.
    """

    def __init__(
        self,
        node: NodeId,
        bus: Bus,
        directories: tuple[Path, ...],
        folders: tuple[Path, ...] = (),
        data_dir: Path | None = None,
        examine: Sequence[str] = COMMAND,
    ) -> None:
        """`data_dir`: where findings are kept; None: nowhere. `examine`: the command that a model's folder
        is given to."""
        super().__init__()
        self._node, self._bus = node, bus
        self._directories, self._folders = directories, folders
        self._models: dict[ModelId, StoredModel] = {}
        self._published: dict[ModelId, ModelFact] = {}
        self._examiner = Examiner(data_dir / EXAMINED if data_dir else None, examine)
        self._scanned = 0.0

    def on_start(self) -> None:
        """Publish what is there, and look again now and then."""
        self._scan()
        self._go_on()

    def on_end(self, cause: BaseException | None) -> None:
        """Leave no examination behind."""
        self._examiner.close()

    def on_receive(self, message: DownloaderMessage) -> StoredModel | None:
        """Find a model as it lies there now, or look through everything again."""
        match message:
            case FindModel(model):
                self._scan()
                return self._models.get(model)
            case Tick():
                if time.monotonic() - self._scanned >= PERIOD_S:
                    self._scan()
                self._go_on()
                return None

    def _go_on(self) -> None:
        if self._examiner.poll():
            self._publish()
        # A little early is not looked at, a whole period late is.
        pause = EXAMINING_PERIOD_S if self._examiner.busy else PERIOD_S
        self.tell_later(pause, Tick())

    def _scan(self) -> None:
        found = {model.id: model for model in scan(self._directories, self._models)}
        for folder in self._folders:
            name = model_name(folder)
            found[name] = read_folder(name, folder, self._models.get(name))
        for name in self._models.keys() - found.keys():
            logger.info("model %s is gone from its folder", name)
            self._bus.withdraw(self._key(name))
            self._published.pop(name, None)
        for name, model in found.items():
            if model.problem and self._models.get(name) != model:
                logger.warning("model %s in %s %s", model.id, model.folder, model.problem)
        self._models = found
        self._scanned = time.monotonic()
        self._examiner.want(list(found.values()))
        self._publish()

    def _publish(self) -> None:
        """Whatever is not known to the others as it is now."""
        for model in self._models.values():
            fact = self._fact(model)
            if self._published.get(model.id) != fact:
                self._published[model.id] = fact
                self._bus.publish(self._key(model.id), fact)

    def _fact(self, model: StoredModel) -> ModelFact:
        card = model.card
        return ModelFact(
            id=model.id,
            node=self._node,
            path=str(model.folder),
            size_bytes=model.size_bytes,
            architecture=card.architecture if card else "",
            context=card.context if card else None,
            created_at=model.created_at,
            quantization=card.quantization if card else "",
            read_only=model.read_only,
            built_in=model.built_in,
            tools=model.tools,
            embeds=model.embeds,
            problem=model.problem,
            shape=self._shape(model),
            folder_mark=model.mark,
        )

    def _shape(self, model: StoredModel) -> Shape | None:
        verdict = self._examiner.verdict(model)
        if model.shape is None or verdict is None:
            return model.shape
        return msgspec.structs.replace(
            model.shape,
            examined=True,
            pipeline_problem=verdict.pipeline_problem,
            tensor_problem=verdict.tensor_problem,
            kv_quant_problem=verdict.kv_quant_problem,
        )

    def _key(self, model: ModelId) -> str:
        return f"model/{self._node}/{model}"


def model_name(folder: Path) -> ModelId:
    """What a model that was named by its folder's path is called: the folder's own name."""
    return ModelId(folder.resolve().name)


async def find_folder(directory: Directory, model: ModelId) -> str | None:
    """Where a model's files lie on this node now; None: there is no whole copy. Raises StoreSilent."""
    try:
        downloader = directory.get(names.DOWNLOADER)
        found = await downloader.request(FindModel(model), timeout=STORE_TIMEOUT_S)
    except (NobodyThere, pykka.ActorDeadError, MailboxFull, TimeoutError) as error:
        raise StoreSilent(f"the models directories can't be looked through now ({error})") from error
    return str(found.folder) if isinstance(found, StoredModel) and not found.problem else None


def find_here(directory: Directory, model: ModelId) -> StoredModel | None:
    """The model as it lies on this node now; None also where that takes too long. From a thread."""
    try:
        found = directory.get(names.DOWNLOADER).ask(FindModel(model), timeout=GLANCE_S)
    except (NobodyThere, pykka.ActorDeadError, MailboxFull, TimeoutError):
        return None
    return found if isinstance(found, StoredModel) else None
