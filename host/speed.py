"""How fast this machine computes and reads weights: measured once, and kept in the node's data directory."""

import logging
import os
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Final

import msgspec

from host import probe, processor

logger = logging.getLogger(__name__)

FILE: Final = "speed.json"


class Speed(msgspec.Struct, frozen=True):
    """What a machine does in a second."""

    gigaflops: float
    """10^9 operations in an f32 matrix product."""
    bandwidth_gb_s: float
    """10^9 bytes of weights read in a product with a vector."""


class _Kept(msgspec.Struct, frozen=True):
    """A measurement, and what it holds for."""

    mlx: str
    cpu_count: int
    speed: Speed


def measure(environment: Mapping[str, str]) -> Speed | str:
    """Measure in a process of its own, which takes some seconds; a text says why there is no result."""
    trial = probe.try_mlx(environment)
    return trial if isinstance(trial, str) else Speed(trial.gigaflops, trial.bandwidth_gb_s)


def recall(data_dir: Path) -> Speed | None:
    """What was measured before with this MLX on as many processors; None: nothing."""
    try:
        kept = msgspec.json.decode((data_dir / FILE).read_bytes(), type=_Kept)
    except (OSError, msgspec.DecodeError):
        return None
    return kept.speed if (kept.mlx, kept.cpu_count) == _circumstances() else None


def measure_and_keep(data_dir: Path) -> Speed | None:
    """Measure now, for `recall` at the next start; None: it can't be measured, and the log says why."""
    speed = measure(os.environ)
    if isinstance(speed, str):
        logger.warning("this machine's speed can't be measured: MLX's trial says: %s", speed)
        return None
    partial = data_dir / f"{FILE}.partial"
    try:
        partial.write_bytes(msgspec.json.encode(_Kept(*_circumstances(), speed)))
        partial.replace(data_dir / FILE)
    except OSError as error:
        logger.warning("%s can't be written (%s): it will be measured again", data_dir / FILE, error)
    return speed


def _circumstances() -> tuple[str, int]:
    return metadata.version("mlx"), processor.usable_count()
