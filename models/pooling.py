"""How a model that was made for embeddings makes one vector of its hidden states.

Such a model's folder is one that sentence-transformers wrote: `modules.json` lists what a text goes through
(a Transformer, a Pooling, perhaps a Normalize), each with its own folder, and the Pooling's `config.json` has
a switch for each of its modes, or names one.
Source: https://sbert.net/docs/sentence_transformer/usage/custom_models.html and `Pooling` in
https://github.com/UKPLab/sentence-transformers.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from models.card import Json

MODULES: Final = "modules.json"
POOLING: Final = "1_Pooling/config.json"
"""Where the pooling is described if nothing says otherwise."""


class PoolingMode(StrEnum):
    """Which of a text's hidden states make its vector."""

    CLS = "cls"
    """The first token's."""
    MEAN = "mean"
    """All tokens', on average."""
    LASTTOKEN = "lasttoken"


_SWITCHES: Final = {
    "pooling_mode_cls_token": PoolingMode.CLS,
    "pooling_mode_mean_tokens": PoolingMode.MEAN,
    "pooling_mode_lasttoken": PoolingMode.LASTTOKEN,
}


@dataclass(frozen=True, slots=True)
class Pooling:
    """What is done with the hidden states of a text, (tokens, hidden) numbers, to get one vector."""

    mode: PoolingMode
    normalize: bool
    """The vector is divided by its length."""
    dimensions: int | None
    """How many numbers the vector has; None: as many as a hidden state."""


def made_for_embeddings(folder: Path) -> bool:
    """Whether a model's folder says that it is for embeddings, in whatever way they are made."""
    return (folder / MODULES).is_file() or (folder / POOLING).is_file()


def read_pooling(folder: Path) -> Pooling | None:
    """How the model in `folder` makes a vector; None: it does not say, or in a way that is not known here
    (other modes, several at once, or layers after the pooling that have weights of their own)."""
    if not (folder / MODULES).exists():
        return _pooling(folder / POOLING, normalize=False)
    modules = _modules(_read(folder / MODULES))
    kinds = [kind for kind, _ in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        return None
    (where,) = (path for kind, path in modules if kind == "Pooling")
    return _pooling(folder / where / "config.json", normalize="Normalize" in kinds)


def _modules(listed: Json) -> list[tuple[str, str]]:
    """The kind and the folder of each module, in order."""
    if not isinstance(listed, list):
        return []
    return [
        (str(module.get("type", "")).rpartition(".")[2], str(module.get("path", "")))
        for module in listed
        if isinstance(module, Mapping)
    ]


def _pooling(path: Path, *, normalize: bool) -> Pooling | None:
    config = _read(path)
    mode = _mode(config) if isinstance(config, Mapping) else None
    if mode is None or not isinstance(config, Mapping):
        return None
    size = config.get("word_embedding_dimension", config.get("embedding_dimension"))
    return Pooling(mode, normalize, size if isinstance(size, int) and size > 0 else None)


def _mode(config: Mapping[str, Json]) -> PoolingMode | None:
    named = config.get("pooling_mode")
    if isinstance(named, str):
        return PoolingMode(named) if named in list(PoolingMode) else None
    on = [name for name, value in config.items() if name.startswith("pooling_mode_") and value is True]
    return _SWITCHES.get(on[0]) if len(on) == 1 else None


def _read(path: Path) -> Json:
    """What a JSON file holds; None: it is missing or can't be read."""
    try:
        found: Json = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found
