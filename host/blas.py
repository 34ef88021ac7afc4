"""Lends MLX a fast BLAS: the system's OpenBLAS, where MLX's own on a Linux CPU is the slow reference one.

An OpenBLAS that is loaded into the process's global scope before `mlx.core` takes the place of the symbols
that MLX's Linux CPU build brings: f32 matrix products were measured 43 to 128 times faster on two x86-64
cores. bf16 and quantised weights use MLX's own kernels and gain nothing. Nothing depends on it.
"""

import ctypes
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata

from host import commands, processor

SONAMES = ("libopenblasp.so.0", "libopenblas_pthreads.so.0", "libopenblas.so.0", "libopenblaso.so.0")
"""As the dynamic linker knows them, threaded builds first: Fedora's plain `libopenblas.so.0` has one."""

HOW_TO_GET_IT = (
    "Debian, Ubuntu: `apt install libopenblas0-pthread`; Fedora: `dnf install openblas-threads`; "
    "Arch: `pacman -S openblas`"
)

GAIN = "43 to 128 times faster f32 matrix products, as measured on two x86-64 cores"


class BlasState(StrEnum):
    """What MLX's matrix products on the CPU run on."""

    PRELOADED = "preloaded"
    """OpenBLAS is in the process, ahead of MLX."""
    ABSENT = "absent"
    """No OpenBLAS was found: MLX uses the one it brings."""
    OFF = "off"
    """Switched off by EXO_BLAS=off."""
    NOT_NEEDED = "not needed"
    """MLX computes with Metal or CUDA here, or was not built with the reference BLAS."""
    LATE = "late"
    """MLX was imported first, so its own symbols may be bound already."""


@dataclass(frozen=True, slots=True)
class BlasReport:
    """What `preload` found and did."""

    state: BlasState
    library: str = ""
    """Name or path of the library that was loaded."""
    build: str = ""
    """OpenBLAS's own words for its version and build."""
    threads: int | None = None
    note: str = ""
    """What would make it faster, for a person to read; empty when nothing would."""


def preload(environment: Mapping[str, str] = os.environ) -> BlasReport:
    """Load the system's OpenBLAS if MLX would profit; to be called before `mlx.core` is imported.

    `EXO_BLAS=off` leaves MLX as it is; any other value is the library's name or path. OpenBLAS itself
    respects `OPENBLAS_NUM_THREADS`; without it there are as many threads as usable processors.
    """
    if not _is_reference_build():
        return BlasReport(BlasState.NOT_NEEDED)
    wish = environment.get("EXO_BLAS", "").strip()
    if wish.lower() == "off":
        return BlasReport(BlasState.OFF, note="EXO_BLAS=off: MLX computes with the BLAS that it brings")
    if "mlx.core" in sys.modules:
        return BlasReport(BlasState.LATE, note="MLX was imported before OpenBLAS could be loaded")
    for name in (wish,) if wish else SONAMES:
        library = _load(name)
        if library is not None:
            return _describe(name, library, environment)
    return BlasReport(BlasState.ABSENT, note=absent_note(wish))


def _is_reference_build() -> bool:
    """Whether MLX is the Linux CPU wheel; its CUDA wheels and builds from source bring something better."""
    if platform.system() != "Linux":
        return False
    try:
        metadata.distribution("mlx-cpu")
    except metadata.PackageNotFoundError:
        return False
    return True


def _load(name: str) -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return None
    return library if hasattr(library, "cblas_sgemm") else None


def _describe(name: str, library: ctypes.CDLL, environment: Mapping[str, str]) -> BlasReport:
    if not {"OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"} & environment.keys():
        _limit_threads(library, processor.usable_count())
    return BlasReport(BlasState.PRELOADED, library=name, build=_build(library), threads=_threads(library))


def _limit_threads(library: ctypes.CDLL, limit: int) -> None:
    """OpenBLAS counts processors, not a container's quota; threads beyond the quota wait for each other."""
    threads = _threads(library)
    if threads is not None and threads > limit and hasattr(library, "openblas_set_num_threads"):
        library.openblas_set_num_threads(limit)


def _threads(library: ctypes.CDLL) -> int | None:
    if not hasattr(library, "openblas_get_num_threads"):
        return None
    return int(library.openblas_get_num_threads())


def _build(library: ctypes.CDLL) -> str:
    if not hasattr(library, "openblas_get_config"):
        return "not an OpenBLAS"
    library.openblas_get_config.restype = ctypes.c_char_p
    config = library.openblas_get_config()
    return config.decode(errors="replace").strip() if isinstance(config, bytes) else ""


def advice(environment: Mapping[str, str] = os.environ) -> str:
    """What would make MLX faster here, for a person to read; empty: nothing. Loads no library."""
    if not _is_reference_build() or environment.get("EXO_BLAS", "").strip():
        return ""
    listing = commands.output("/sbin/ldconfig", "-p")
    return "" if listing is None or any(name in listing for name in SONAMES) else absent_note()


def absent_note(wish: str = "") -> str:
    """What to do when there is no OpenBLAS, or not the one that was wished for."""
    if wish:
        return f"EXO_BLAS={wish}: no such library, or no BLAS in it; give its path, or `off`"
    return f"install OpenBLAS for {GAIN}. {HOW_TO_GET_IT}"
