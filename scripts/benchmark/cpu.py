"""How busy a process is, in slices of milliseconds, and from when on it was idle."""

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import psutil

EVERY_S = 0.005
BUSY = 0.3
"""Of a core, within one slice: less is what heartbeats take."""
QUIET_S = 0.3
"""So long it has to be idle for it to count."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A moment of the monotonic clock, and the processor time that the process had used by then. Seconds."""

    at_s: float
    cpu_s: float


def cpu_time(pid: int) -> float:
    """Processor time of a process and all its threads, in seconds."""
    if platform.system() == "Linux":
        # The kernel's clock id of another process's processor time, as clock_getcpuclockid(3) makes it:
        # exact, where /proc counts in ticks of 10 ms.
        return time.clock_gettime((~pid << 3) | 2)
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def watch(pid: int, for_s: float) -> list[Sample]:
    """Samples of a process for that long."""
    samples = []
    start_s = now = time.monotonic()
    while now < start_s + for_s:
        samples.append(Sample(now, cpu_time(pid)))
        time.sleep(EVERY_S)
        now = time.monotonic()
    return samples


def idle_from(samples: Sequence[Sample], after_s: float) -> float | None:
    """The moment after which the process was idle for QUIET_S at least, not before `after_s`; None: never.

    Within the last busy slice it worked for as long as the processor time that it used there: the moment is
    that far into the slice.
    """
    idle_s = after_s
    for before, sample in pairwise(samples):
        if sample.at_s <= after_s:
            continue
        if before.at_s - idle_s >= QUIET_S:
            return idle_s
        used_s, took_s = sample.cpu_s - before.cpu_s, sample.at_s - before.at_s
        if used_s > BUSY * took_s:
            idle_s = max(before.at_s + min(used_s, took_s), after_s)
    return idle_s if samples and samples[-1].at_s - idle_s >= QUIET_S else None
