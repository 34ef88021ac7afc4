"""What MLX computes on here, found out without importing MLX."""

import platform
from importlib import metadata
from pathlib import Path

from bus.messages.facts import Accelerator, AcceleratorKind
from host import blas, commands

CPUINFO = Path("/proc/cpuinfo")

USE_CUDA = "an NVIDIA GPU is there, but this is MLX's CPU build: start with `EXO_CUDA=1 scripts/run`"


def read() -> Accelerator:
    """This machine's accelerator. Blocks for some ten milliseconds: it asks the system's own commands."""
    match platform.system(), platform.machine():
        case "Darwin", "arm64":
            return _metal()
        case "Linux", _:
            return _linux()
        case system, machine:
            return Accelerator(
                kind=AcceleratorKind.CPU, name=machine, note=f"MLX has no GPU support on {system} {machine}"
            )


def _metal() -> Accelerator:
    chip = commands.output("sysctl", "-n", "machdep.cpu.brand_string") or "Apple silicon"
    limit = parse_wired_limit(commands.output("sysctl", "-n", "iogpu.wired_limit_mb") or "")
    return Accelerator(kind=AcceleratorKind.METAL, name=chip.strip(), memory_bytes=limit)


def _linux() -> Accelerator:
    gpus = parse_nvidia_smi(
        commands.output("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits") or ""
    )
    if gpus and _has_cuda_build():
        return gpus[0]
    return Accelerator(kind=AcceleratorKind.CPU, name=_cpu_name(), note=USE_CUDA if gpus else blas.advice())


def _has_cuda_build() -> bool:
    names = (distribution.metadata["Name"] for distribution in metadata.distributions())
    return any(name.lower().startswith("mlx-cuda") for name in names)


def _cpu_name() -> str:
    try:
        name = parse_cpuinfo(CPUINFO.read_text())
    except OSError:
        name = ""
    return name or platform.machine()


def parse_wired_limit(text: str) -> int | None:
    """Bytes in `iogpu.wired_limit_mb`; None: not set, so the system's own limit holds (0)."""
    text = text.strip()
    return int(text) * 2**20 or None if text.isdigit() else None


def parse_nvidia_smi(text: str) -> list[Accelerator]:
    """One per line of "name, memory in MiB"; parts with unified memory answer "[N/A]".

    >>> [gpu.memory_bytes for gpu in parse_nvidia_smi("NVIDIA H200, 143771\\nNVIDIA GB10, [N/A]")]
    [150754820096, None]
    """
    gpus = []
    for line in text.splitlines():
        name, comma, size = (part.strip() for part in line.rpartition(","))
        if comma and name:
            memory_bytes = int(size) * 2**20 if size.isdigit() else None
            gpus.append(Accelerator(kind=AcceleratorKind.CUDA, name=name, memory_bytes=memory_bytes))
    return gpus


def parse_cpuinfo(text: str) -> str:
    """The first processor's name in `/proc/cpuinfo`; empty: it says none, as on most ARM machines."""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return ""
