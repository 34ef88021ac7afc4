"""How many processors this process may use, and how busy they are."""

import math
import os
import platform

import psutil

from host import cgroup


def usable_count() -> int:
    """Processors that this process may use: the machine's, less by affinity and by a container's quota."""
    shares = (parse_cpu_max(cgroup.setting(group, "cpu.max")) for group in cgroup.folders())
    return max(1, min([_affinity(), *(math.ceil(share) for share in shares if share)]))


def _affinity() -> int:
    if platform.system() == "Linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def parse_cpu_max(text: str) -> float | None:
    """Processors' worth of time in cgroup v2's `cpu.max` ("quota period" in microseconds); None: no limit.

    >>> parse_cpu_max("150000 100000")
    1.5
    """
    match text.split():
        case [quota, period] if quota.isdigit() and period.isdigit() and int(period) > 0:
            return int(quota) / int(period)
        case _:
            return None


def load() -> float:
    """0 to 1 over all processors, since the last call; 0 at the first."""
    return min(1.0, psutil.cpu_percent(interval=None) / 100)
