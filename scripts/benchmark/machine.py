"""What the figures were measured on: the machine, how busy it was, and the versions of what took part."""

import os
import platform
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from exo_actors import __version__
from host import commands
from host.blas import SONAMES

JITTER_S = 2.0
"""How long the machine is watched for what else goes on."""
PACKAGES = ("mlx", "mlx-lm", "pyzmq", "aiohttp", "msgspec")


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine and its software, for a person to read."""

    processor: str
    cores: int
    system: str
    python: str
    versions: dict[str, str]
    blas: str
    """Where the system's OpenBLAS is; empty: there is none."""
    load: float
    """Processes that wanted a core in the last minute, on average, when the benchmark began."""
    jitter_ms: float
    """The longest that a process which only looked at the clock was kept from it: no gap is known better."""


def look() -> Machine:
    """This machine, now."""
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        system=platform.platform(),
        python=platform.python_version(),
        versions={"exo_actors": __version__} | {name: metadata.version(name) for name in PACKAGES},
        blas=system_openblas(),
        load=os.getloadavg()[0],
        jitter_ms=1000 * jitter(),
    )


def jitter(for_s: float = JITTER_S) -> float:
    """The longest time in seconds that this process was kept from a processor, which it wants all along."""
    worst_s = 0.0
    last_s = start_s = time.monotonic()
    while last_s < start_s + for_s:
        now_s = time.monotonic()
        worst_s = max(worst_s, now_s - last_s)
        last_s = now_s
    return worst_s


def describe(machine: Machine) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return (
        f"{machine.processor}, {machine.cores} cores, {machine.system}\n"
        f"load {machine.load:.1f}; a process was kept waiting for up to {machine.jitter_ms:.0f} ms\n"
        f"Python {machine.python}, {versions}\n"
        f"BLAS: {machine.blas or 'the one that MLX brings'}"
    )


def system_openblas() -> str:
    """The file of the OpenBLAS that `host.blas` lends to our engine, to lend it to others; empty: none."""
    if platform.system() != "Linux":
        return ""
    listing = commands.output("/sbin/ldconfig", "-p") or ""
    files = dict(_entry(line) for line in listing.splitlines() if "=>" in line)
    return next((files[name] for name in SONAMES if name in files), "")


def _entry(line: str) -> tuple[str, str]:
    name, _, file = line.partition("=>")
    return name.split()[0], file.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
