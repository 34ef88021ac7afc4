"""Who is measured: a node of ours, and mlx_lm.server with the same BLAS or as it is shipped."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import psutil

from scripts.benchmark.process import Process

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Server:
    """A server that was started; it may not be ready yet."""

    contender: str
    url: str
    model: str
    """What the model is called in a request."""
    process: Process
    others: tuple[Process, ...] = ()
    """What serves together with it."""

    @property
    def processes(self) -> tuple[Process, ...]:
        return (self.process, *self.others)

    @property
    def engine_pid(self) -> int:
        """The process that computes: a child of its own, or the server itself."""
        for child in psutil.Process(self.process.pid).children(recursive=True):
            if "engine" in child.cmdline():
                return child.pid
        return self.process.pid


class Contender(Protocol):
    """What can be started to serve a model."""

    @property
    def name(self) -> str: ...

    def start(self, model: Path, scratch: Path, port: int) -> Server:
        """Start serving the model's folder; `scratch` is an empty folder for what it writes."""
        ...


@dataclass(frozen=True, slots=True)
class Ours:
    """A node of this project."""

    pace_ms: float | None = None
    """None: its default."""
    name: str = "exo_actors"
    environment: dict[str, str] = field(default_factory=dict)
    cores: tuple[int, ...] = ()
    """The only ones that it may use; none: all."""

    def start(self, model: Path, scratch: Path, port: int) -> Server:
        arguments = [sys.executable, "-m", "exo_actors", "--port", str(port), "--offline", "--no-mdns"]
        arguments += ["--data-dir", str(scratch / "data")]
        arguments += ["--models-dir", str(model.parent), "--model", model.name]
        if self.pace_ms is not None:
            arguments += ["--pace", f"{self.pace_ms:g}"]
        environment = clean_environment() | self.environment
        process = Process(arguments, environment, ROOT, scratch / "output.log", self.cores)
        return Server(self.name, f"http://127.0.0.1:{port}", model.name, process)


@dataclass(frozen=True, slots=True)
class MlxLm:
    """mlx_lm.server, with its default settings."""

    blas: str = ""
    """The library that is preloaded; empty: what MLX brings."""
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return "mlx_lm.server + OpenBLAS" if self.blas else "mlx_lm.server"

    def start(self, model: Path, scratch: Path, port: int) -> Server:
        arguments = [sys.executable, "-m", "mlx_lm", "server", "--model", str(model), "--port", str(port)]
        arguments += ["--log-level", "WARNING"]
        lent = {"LD_PRELOAD": self.blas} if self.blas else {}
        environment = clean_environment() | lent | self.environment
        process = Process(arguments, environment, ROOT, scratch / "output.log")
        return Server(self.name, f"http://127.0.0.1:{port}", "default_model", process)


@contextmanager
def running(contender: Contender, model: Path, scratch: Path) -> Iterator[Server]:
    """A started server that is gone when the block is left."""
    scratch.mkdir(parents=True)
    server = contender.start(model, scratch, free_port())
    try:
        yield server
    finally:
        for process in reversed(server.processes):
            process.stop()


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clean_environment() -> dict[str, str]:
    """Without settings of ours that a person's shell may have; nothing is asked of the internet."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EXO_")}
    return kept | {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
