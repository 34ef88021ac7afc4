"""A model from a folder: read layer by layer, offline, with a clear word for everything that can go wrong."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import mlx.core as mx

from engine.border import Network, limit_cache
from engine.sharding.stage import Stage
from engine.steps.decoding import Decoding, habits
from engine.text.detokenizer import Detokenizer, Spelling, Vocabulary, WindowDetokenizer, token_bytes
from engine.text.tokenizer import Tokenizer
from models.card import read_card

logger = logging.getLogger(__name__)

UNSTATED_CONTEXT: Final = 4096
"""Tokens. For a model whose config.json does not say what it was made for."""
CACHE_BYTES: Final = 1 << 30
"""Freed memory that MLX may keep for reuse: enough for the activations of a prefill slice."""

Tell = Callable[[str, float | None], None]
"""Says what is being done, and how far it is (0 to 1)."""


class LoadFailed(Exception):
    """The model can't be loaded; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Share:
    """What of a model a rank computes."""

    first: int
    end: int
    """Of the layers."""
    samples: bool
    """It is the one rank that needs the logits."""
    group: mx.distributed.Group | None = None
    """Those that divide each of these layers between them."""
    kv_bits: int | None = None
    """As in Load."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that is in memory, or its first stage."""

    network: Network
    tokenizer: Tokenizer
    speller: "Speller"
    context: int
    """Tokens, prompt and answer together."""
    habits: Decoding
    """How its makers mean it to be decoded."""
    stage: Stage
    """What is in memory of it."""


class Speller:
    """Knows the bytes of each token of a tokenizer, and makes detokenizers for it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        spelling, trims = tokenizer.spelling()
        self._vocabulary: Vocabulary | None = None
        if spelling is not Spelling.OPAQUE:
            table = token_bytes(tokenizer.pieces(), tokenizer.added(), spelling)
            self._vocabulary = Vocabulary(table, trims)

    def bytes_of(self, token: int) -> bytes:
        if self._vocabulary is not None:
            return self._vocabulary.bytes_of(token)
        return self._tokenizer.decode([token]).encode()

    def detokenizer(self, continues: bool) -> Detokenizer:
        """For one sequence. `continues`: its first token goes on in the middle of a text."""
        if self._vocabulary is not None:
            return self._vocabulary.detokenizer(continues)
        return WindowDetokenizer(self._tokenizer.decode)


def load(
    folder: Path,
    context: int | None,
    tell: Tell,
    share: Share | None = None,
    kv_bits: int | None = None,
) -> Loaded:
    """Read the model in `folder`, or a rank's share of it, and its tokenizer; `context` bounds what its
    config.json says. Raises LoadFailed."""
    with _explained(folder):
        own = read_card(folder).context
        tell("reading the tokenizer", 0.0)
        network = Network(folder)
        tokenizer = Tokenizer(folder, network.config)
        speller = Speller(tokenizer)
        stage = _divide(network, share or Share(0, len(network.layers), samples=True, kv_bits=kv_bits), tell)
    return Loaded(network, tokenizer, speller, _bounded(own, context), habits(folder), stage)


def load_stage(folder: Path, share: Share, tell: Tell) -> tuple[Stage, Tokenizer | None]:
    """Read a rank's share of the model in `folder` alone, and its tokenizer where tokens are chosen. Raises
    LoadFailed."""
    with _explained(folder):
        network = Network(folder)
        tokenizer = Tokenizer(folder, network.config) if share.samples else None
        return _divide(network, share, tell), tokenizer


def _divide(network: Network, share: Share, tell: Tell) -> Stage:
    if share.group is not None:
        if not network.can_shard:
            raise LoadFailed(f"mlx-lm can't divide the layers of {network.architecture}: use a pipeline")
        network.shard(share.group)
    whole = share.group is None and (share.first, share.end) == (0, len(network.layers))
    stage = Stage(network, share.first, share.end, share.kv_bits, whole=whole)
    stage.materialise(share.samples or stage.shares_head, _layers(tell))
    return stage


def _layers(tell: Tell) -> Callable[[int, int], None]:
    return lambda done, of: tell(f"reading layer {done} of {of}", done / of if of else None)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    _check_folder(folder)
    limit_cache(CACHE_BYTES)
    try:
        yield
    except LoadFailed:
        raise
    except Exception as error:
        logger.debug("loading failed", exc_info=True)
        raise LoadFailed(explain(error, folder)) from error


def _bounded(own: int | None, wished: int | None) -> int:
    if own is None:
        return wished or UNSTATED_CONTEXT
    return min(own, wished) if wished else own


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise LoadFailed(f"{folder} is no folder: check the path, or fetch the model again")
    if not (folder / "config.json").is_file():
        raise LoadFailed(f"{folder} has no config.json: copy the model's whole folder")
    if next(folder.glob("*.partial"), None) is not None:
        raise LoadFailed(f"{folder} is not complete yet: wait for its download, or start it again")
    if next(folder.glob("model*.safetensors"), None) is None:
        raise LoadFailed(f"{folder} has no model*.safetensors: mlx-lm reads safetensors only")


def explain(error: Exception, folder: Path) -> str:
    """What went wrong and what to do, for a person to read."""
    text = " ".join(str(error).split())[:500]
    match error:
        case MemoryError():
            return f"out of memory while loading {folder.name}: free memory, or choose a smaller model"
        case RuntimeError() if "alloc" in text.lower() or "memory" in text.lower():
            return (
                f"out of memory while loading {folder.name} ({text}): free memory, or choose a smaller model"
            )
        case ValueError() if "model_type" in text or "not supported" in text.lower():
            return f"mlx-lm can't run {folder.name}: {text}"
        case ValueError() if "custom" in text or "trust_remote_code" in text:
            return f"{folder.name} wants to run code from its own folder, which is not done: {text}"
        case FileNotFoundError():
            return f"a file of {folder.name} is missing: {text}. Copy the model's whole folder"
        case _:
            return f"{folder.name} can't be read: {type(error).__name__}: {text}. Copy its folder again"
