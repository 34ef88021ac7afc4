"""How much memory this machine has, how much is available, and how short of it its own system judges it.

Linux: the strictest of the machine's and its control groups' limits, and PSI, the share of time in which
something waited for memory (https://docs.kernel.org/accounting/psi.html). macOS: the kernel's own pressure
level, and `memory_pressure`, since vm_stat's counts leave out what can be reclaimed at once.
"""

import contextlib
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from bus.messages.facts import Memory, Pressure
from host import cgroup, commands

PSI = Path("/proc/pressure/memory")

WARNING_STALL, CRITICAL_STALL = 0.10, 0.40
"""Shares of time: something waited (PSI's `some`)."""
CRITICAL_STANDSTILL = 0.10
"""Share of time: everything waited (PSI's `full`)."""
WARNING_SHARE, CRITICAL_SHARE = 0.10, 0.04
"""Available memory as a share of all."""

NO_PSI = "this kernel does not report memory pressure (PSI): judged by the available memory alone"


@dataclass(frozen=True, slots=True)
class Stall:
    """Shares of the last ten seconds, 0 to 1, in which something or everything waited for memory."""

    some: float
    full: float


def read() -> Memory:
    """This machine's memory now. Blocks for some milliseconds."""
    memory = psutil.virtual_memory()
    match platform.system():
        case "Linux":
            return _read_linux(memory.total, memory.available)
        case "Darwin":
            return _read_macos(memory.total, memory.available)
        case other:
            reason = f"not measured on {other}"
            return Memory(total_bytes=memory.total, available_bytes=memory.available, reason=reason)


# -- Linux ---------------------------------------------------------------------------------------


def _read_linux(total: int, available: int) -> Memory:
    for group in cgroup.folders():
        limit, current = cgroup.setting(group, "memory.max"), cgroup.setting(group, "memory.current")
        total, available = within(total, available, limit, current, cgroup.setting(group, "memory.stat"))
    return judge_linux(total, available, worst_stall(_stalls()))


def _stalls() -> Iterable[Stall]:
    texts = [cgroup.setting(group, "memory.pressure") for group in cgroup.folders()]
    with contextlib.suppress(OSError):  # built without PSI, or booted with psi=0
        texts.append(PSI.read_text())
    return (stall for text in texts if (stall := parse_psi(text)))


def within(total: int, available: int, limit: str, current: str, statistics: str) -> tuple[int, int]:
    """Total and available bytes under a control group's `memory.max`, `memory.current` and `memory.stat`.

    Its page cache that is not in use counts as available, as it does in the machine's MemAvailable.
    """
    if not limit.isdigit() or not current.isdigit():
        return total, available  # "max" or nothing: no limit
    left = int(limit) - int(current) + parse_reclaimable(statistics)
    return min(total, int(limit)), max(0, min(available, left))


def parse_reclaimable(statistics: str) -> int:
    """The bytes of `inactive_file` in a control group's `memory.stat`."""
    for line in statistics.splitlines():
        name, _, count = line.partition(" ")
        if name == "inactive_file" and count.isdigit():
            return int(count)
    return 0


def parse_psi(text: str) -> Stall | None:
    """The ten-second averages in a PSI file; None: it holds none.

    >>> parse_psi("some avg10=12.50 avg60=0 avg300=0 total=9\\nfull avg10=1.00 avg60=0 avg300=0 total=1")
    Stall(some=0.125, full=0.01)
    """
    shares: dict[str, float] = {}
    for line in text.splitlines():
        kind, _, rest = line.partition(" avg10=")
        try:
            shares[kind] = float(rest.split(" ")[0]) / 100
        except ValueError:
            return None
    return Stall(shares["some"], shares.get("full", 0.0)) if "some" in shares else None


def worst_stall(stalls: Iterable[Stall]) -> Stall | None:
    """The machine's and its groups' stalls as one; None: nothing is known."""
    known = list(stalls)
    return Stall(max(s.some for s in known), max(s.full for s in known)) if known else None


def judge_linux(total: int, available: int, stall: Stall | None) -> Memory:
    """What the numbers say: waiting for memory is what counts; little that is left comes before it."""
    some, full = (stall.some, stall.full) if stall else (0.0, 0.0)
    share = available / total if total else 0.0
    if some >= CRITICAL_STALL or full >= CRITICAL_STANDSTILL or share < CRITICAL_SHARE:
        pressure = Pressure.CRITICAL
    elif some >= WARNING_STALL or share < WARNING_SHARE:
        pressure = Pressure.WARNING
    else:
        pressure = Pressure.NORMAL
    return Memory(
        total_bytes=total,
        available_bytes=available,
        pressure=pressure,
        stalled=stall.some if stall else None,
        reason="" if stall else NO_PSI,
    )


# -- macOS ---------------------------------------------------------------------------------------


def _read_macos(total: int, available: int) -> Memory:
    level = commands.output("sysctl", "-n", "kern.memorystatus_vm_pressure_level")
    free = parse_free_share(commands.output("memory_pressure", "-Q") or "")
    pressure = parse_pressure_level(level or "")
    return Memory(
        total_bytes=total,
        available_bytes=available if free is None else int(total * free),
        pressure=pressure,
        reason="sysctl gave no pressure level" if pressure is Pressure.UNKNOWN else "",
    )


def parse_pressure_level(text: str) -> Pressure:
    """The kernel's own judgement, `kern.memorystatus_vm_pressure_level`: 1, 2 or 4."""
    levels = {"1": Pressure.NORMAL, "2": Pressure.WARNING, "4": Pressure.CRITICAL}
    return levels.get(text.strip(), Pressure.UNKNOWN)


def parse_free_share(text: str) -> float | None:
    """The free share, 0 to 1, in what `memory_pressure -Q` prints; None: it prints none.

    >>> parse_free_share("System-wide memory free percentage: 81%")
    0.81
    """
    for line in text.splitlines():
        label, _, value = line.partition("free percentage:")
        number = value.strip().removesuffix("%")
        if label and number.isdigit():
            return int(number) / 100
    return None
