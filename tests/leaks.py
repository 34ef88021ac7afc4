"""What a test left behind: actors, threads, child processes, sockets, open and temporary files."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from dataclasses import dataclass, fields
from pathlib import Path

import psutil
import pykka

TOLERATED_THREADS = ("tqdm_monitor", "TMonitor")
"""Class or thread names of what a library starts once per process and never ends."""

OF_A_LOOP = "asyncio_"
"""How the names of an event loop's own helpers begin: they end with their loop, which tests may share."""

TOLERATED_PROCESSES = ("multiprocessing.resource_tracker",)
"""Likewise, parts of the command line."""

POLL_S = 0.005


@dataclass(frozen=True)
class Snapshot:
    """What there is at one moment, in words that are the same at the next."""

    actors: frozenset[str]
    threads: frozenset[str]
    processes: frozenset[str]
    sockets: frozenset[str]
    open_files: frozenset[str]
    temp_files: frozenset[str]

    @classmethod
    def take(cls, temp_dir: Path) -> Snapshot:
        process = psutil.Process()
        return cls(
            actors=frozenset(str(ref) for ref in pykka.ActorRegistry.get_all()),
            threads=frozenset(_threads()),
            processes=frozenset(_children(process)),
            sockets=frozenset(
                f"fd {each.fd} {each.type.name} {each.laddr} -> {each.raddr}"
                for each in process.net_connections("all")
            ),
            open_files=frozenset(f"fd {each.fd} {each.path}" for each in process.open_files()),
            temp_files=frozenset(path.name for path in temp_dir.iterdir()),
        )

    def left_since(self, before: Snapshot) -> list[str]:
        """What there is now and was not then: "actors: Echo-1a2b3c"."""
        news = (
            (field.name, getattr(self, field.name) - getattr(before, field.name)) for field in fields(self)
        )
        return [f"{kind.replace('_', ' ')}: {', '.join(sorted(new))}" for kind, new in news if new]


def left_behind(before: Snapshot, temp_dir: Path, patience_s: float) -> list[str]:
    """What is still there after a while; what is just ending is given that while."""
    deadline = time.monotonic() + patience_s
    while True:
        left = Snapshot.take(temp_dir).left_since(before)
        if not left or time.monotonic() > deadline:
            return left
        gc.collect()  # what nobody holds any more is not left
        time.sleep(POLL_S)  # nothing tells when a thread or a socket of somebody else's is gone


def _threads() -> list[str]:
    return [
        f"{thread.name} ({thread.ident})"
        for thread in threading.enumerate()
        if type(thread).__name__ not in TOLERATED_THREADS
        and thread.name not in TOLERATED_THREADS
        and not thread.name.startswith(OF_A_LOOP)
    ]


def _children(process: psutil.Process) -> list[str]:
    if not _has_children():
        return []
    return [words for child in process.children(recursive=True) if (words := _describe(child))]


def _has_children() -> bool:
    """One question to the kernel, where a list of them takes a file of every process on the machine."""
    if sys.platform != "linux":
        return True  # perhaps
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _describe(child: psutil.Process) -> str:
    """Empty: it has just ended, or it is tolerated."""
    try:
        command = " ".join(child.cmdline()) or child.name()
        state = " (not waited for)" if child.status() == psutil.STATUS_ZOMBIE else ""
    except psutil.NoSuchProcess:
        return ""
    return "" if any(name in command for name in TOLERATED_PROCESSES) else f"{child.pid} {command}{state}"
