"""How a sequence is decoded: as its request asks, else as the model's makers mean it, else plainly."""

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bus.messages.generation import Sampling

logger = logging.getLogger(__name__)

RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "temperature": (0.0, 1e6),
    "top_p": (0.0, 1.0),
    "top_k": (0, math.inf),
    "min_p": (0.0, 1.0),
    "repetition_penalty": (0.01, 100.0),
    "presence_penalty": (-1e4, 1e4),
    "frequency_penalty": (-1e4, 1e4),
    "logit_bias": (-1e4, 1e4),
}
"""Within which sampling is defined: beyond them, numbers leave the floats that logits are kept in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """See `Sampling`; here nothing is left open. The defaults change nothing."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None

    def settle(self, wished: Sampling) -> "Decoding":
        """What is wished for, and these where nothing is."""
        return Decoding(
            temperature=self.temperature if wished.temperature is None else wished.temperature,
            top_p=self.top_p if wished.top_p is None else wished.top_p,
            top_k=self.top_k if wished.top_k is None else wished.top_k,
            min_p=self.min_p if wished.min_p is None else wished.min_p,
            repetition_penalty=(
                self.repetition_penalty if wished.repetition_penalty is None else wished.repetition_penalty
            ),
            presence_penalty=wished.presence_penalty,
            frequency_penalty=wished.frequency_penalty,
            logit_bias=wished.logit_bias,
            seed=wished.seed,
        )


def habits(folder: Path) -> Decoding:
    """How a model is meant to be decoded, as its makers say in `generation_config.json`."""
    try:
        config = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Decoding()
    except (OSError, ValueError) as error:
        logger.warning("generation_config.json of %s can't be read (%s): ignored", folder.name, error)
        return Decoding()
    return habits_from(config) if isinstance(config, dict) else Decoding()


def habits_from(config: Mapping[str, object]) -> Decoding:
    """From the content of a generation_config.json; what has no meaning there counts as not given."""
    plain = Decoding()
    greedy = config.get("do_sample") is False
    return Decoding(
        temperature=0.0 if greedy else _number(config, "temperature", plain.temperature),
        top_p=_number(config, "top_p", plain.top_p),
        top_k=int(_number(config, "top_k", plain.top_k)),
        min_p=_number(config, "min_p", plain.min_p),
        repetition_penalty=_number(config, "repetition_penalty", plain.repetition_penalty),
    )


def _number(config: Mapping[str, object], key: str, default: float) -> float:
    value, (least, most) = config.get(key), RANGES[key]
    if not isinstance(value, int | float) or isinstance(value, bool):
        return default
    return value if math.isfinite(value) and least <= value <= most else default
