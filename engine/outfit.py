"""What an engine has besides its model: what it makes of a Load's wishes, and of what is on its disk."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from bus.messages.engine import Budget, Load, Part
from engine.constraints.errors import GrammarError
from engine.constraints.grammars import Grammars
from engine.drafting.drafter import Drafter
from engine.drafting.model import load_draft
from engine.drafting.verify import can_forget
from engine.loader import Loaded, LoadFailed
from engine.memory.footprint import Footprint
from engine.prefixes.disk import Shelf, fingerprint
from engine.prefixes.index import Index
from engine.prefixes.layers import is_sliceable
from engine.ranks.conductor import Conductor
from engine.ranks.rank import Equipment
from engine.scheduling.guesser import Guesser
from engine.scheduling.keeper import Keeper
from models.pooling import read_pooling

logger = logging.getLogger(__name__)


def shelf_of(order: Load, layers: tuple[int, int]) -> Shelf | None:
    """Where this rank's kept prefixes outlive it; None: nowhere."""
    if not (order.prefixes and order.prefixes_path):
        return None
    part = order.part
    tensor = (part.rank % part.tensor, part.tensor) if part is not None else (0, 1)
    mark = fingerprint(Path(order.path), layers, tensor, order.kv_bits)
    return Shelf(Path(order.prefixes_path), mark, order.prefixes_disk_bytes)


def equipment_of(order: Load, grammars: Grammars | None, shelf: Shelf | None) -> Equipment:
    """`grammars`: where tokens are chosen."""
    return Equipment(grammars, read_pooling(Path(order.path)), shelf)


def prepare(grammars: Grammars) -> None:
    """Do what the first answer with a format would wait for."""
    try:
        grammars.prepare()
    except GrammarError as error:
        logger.info("answers of this model can't be held to formats: %s", error)


def keeper_of(
    order: Load, loaded: Loaded, conductor: Conductor, footprint: Footprint, budget: Budget | None, kept: str
) -> Keeper:
    """`kept`: the name of what every rank has on its disk. Raises LoadFailed where this one has not."""
    index = None
    if order.prefixes:
        sliceable = is_sliceable(loaded.stage.all_fresh())
        costs = (footprint.token_bytes, footprint.state_bytes)
        index = Index(sliceable, *costs)
        record = conductor.restore(kept) if kept else None
        if record is not None:
            index = _restored(conductor, index, lambda: Index.from_record(record, sliceable, *costs))
    return Keeper(conductor, footprint, index, budget, saves=bool(order.prefixes_path))


def _restored(conductor: Conductor, empty: Index, read: Callable[[], Index]) -> Index:
    """What a record says of the kept prefixes, if it can be read and is about them; else none are kept."""
    try:
        index = read()
    except ValueError as error:
        logger.warning("what is said of kept prefixes can't be read (%s): none are taken up", error)
    else:
        if len(index) == conductor.stored:
            return index
        logger.warning("%d prefixes are kept where %d should be: none are", conductor.stored, len(index))
    conductor.forget_all()
    return empty


def guesser_of(order: Load, loaded: Loaded) -> Guesser:
    """Guessing needs caches that can be rolled back, at every rank."""
    if not order.speculate or not can_forget(loaded.stage.all_fresh()):
        return Guesser(None)
    draft = None
    if order.draft_path:
        try:
            draft = load_draft(Path(order.draft_path), loaded.tokenizer)
        except LoadFailed as failure:
            # It only makes answers faster.
            logger.warning("there is no draft model: %s", failure)
    return Guesser(Drafter(draft))


def tightest(budget: Budget | None, part: Part | None, kv_bytes: Sequence[int]) -> Budget | None:
    """Rank 0's budget, such that what it admits fits every rank: layers are taken to be alike.

    `kv_bytes`: each rank's, 0 where it is not known.
    """
    if budget is None or part is None:
        return budget
    sizes = [end - first for first, end in part.layers]
    scaled = [known * sizes[0] // sizes[rank // part.tensor] for rank, known in enumerate(kv_bytes) if known]
    return Budget(min([budget.kv_bytes, *scaled]), budget.cache_bytes, budget.short)
