"""Several processes that serve one model together: two nodes of ours, or two ranks of mlx_lm.server."""

import contextlib
import json
import secrets
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bus.messages.placement import Sharding
from scripts.benchmark.contenders import ROOT, Server, clean_environment, free_port
from scripts.benchmark.process import Process, ProcessDied

TOGETHER_S = 60.0
"""How long nodes may take to know each other, and to find out how the model can be divided."""
ASK_AGAIN_S = 0.2
NAMES = ("first", "second")

Cores = tuple[tuple[int, ...], tuple[int, ...]]
"""The only ones that each of the two may use; none: all."""


@dataclass(frozen=True, slots=True)
class TwoNodes:
    """Two nodes that have a model placed on both, by the API that people use."""

    sharding: Sharding
    cores: Cores
    environment: dict[str, str]
    layers: tuple[int, ...] = ()
    """Of each stage; none: as the cluster divides them."""
    name: str = "exo_actors, two nodes"

    def start(self, model: Path, scratch: Path, port: int) -> Server:
        key, bus = secrets.token_hex(), free_port()
        first = self._node(0, model, scratch, ["--port", str(port), "--bus-port", str(bus)], key)
        second = self._node(1, model, scratch, ["--port", "0", "--peer", f"127.0.0.1:{bus}"], key)
        server = Server(self.name, f"http://127.0.0.1:{port}", model.name, first, (second,))
        try:
            self._place(server)
        except BaseException:
            for process in server.processes:
                process.stop()
            raise
        return server

    def _node(self, number: int, model: Path, scratch: Path, flags: Sequence[str], key: str) -> Process:
        arguments = [
            sys.executable,
            "-m",
            "exo_actors",
            "--name",
            NAMES[number],
            "--cluster-key",
            key,
            *flags,
        ]
        arguments += ["--no-mdns", "--no-model", "--no-auto-place", "--no-page", "--offline"]
        arguments += ["--data-dir", str(scratch / NAMES[number]), "--models-dir", str(model.parent)]
        log = scratch / f"{NAMES[number]}.log"
        environment = clean_environment() | self.environment
        return Process(arguments, environment, ROOT, log, self.cores[number])

    def _place(self, server: Server) -> None:
        """Ask until the model is placed on both. Raises ProcessDied, with the last refusal."""
        wish: dict[str, object] = {"model": server.model, "sharding": self.sharding.value, "nodes": NAMES}
        if self.layers:
            wish["layers"] = self.layers
        deadline_s = time.monotonic() + TOGETHER_S
        while (refusal := _post(f"{server.url}/v1/instances", wish)) is not None:
            for process in server.processes:
                process.check()
            if time.monotonic() > deadline_s:
                raise ProcessDied(f"{self.name}: the model could not be placed: {refusal}")
            time.sleep(ASK_AGAIN_S)


def _post(url: str, body: Mapping[str, object]) -> str | None:
    """Why it did not succeed; None: it did."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with contextlib.closing(urllib.request.urlopen(request, timeout=TOGETHER_S)):
            return None
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode(errors="replace")
    except OSError as error:
        return str(error)


@dataclass(frozen=True, slots=True)
class MlxLmRanks:
    """mlx_lm.server as `mlx.launch` starts it: two ranks that divide every layer between them."""

    blas: str
    """The library that is preloaded; empty: what MLX brings."""
    cores: Cores
    environment: dict[str, str]

    @property
    def name(self) -> str:
        return "mlx_lm.server + OpenBLAS, two ranks" if self.blas else "mlx_lm.server, two ranks"

    def start(self, model: Path, scratch: Path, port: int) -> Server:
        hosts = scratch / "hosts.json"
        hosts.write_text(json.dumps([[f"127.0.0.1:{free_port()}"] for _ in self.cores]))
        arguments = [sys.executable, "-m", "mlx_lm", "server", "--model", str(model), "--port", str(port)]
        arguments += ["--log-level", "WARNING"]
        lent = {"LD_PRELOAD": self.blas} if self.blas else {}
        environment = clean_environment() | lent | self.environment | {"MLX_HOSTFILE": str(hosts)}
        first, *others = (
            Process(arguments, environment | {"MLX_RANK": str(rank)}, ROOT, scratch / f"{rank}.log", cores)
            for rank, cores in enumerate(self.cores)
        )
        return Server(self.name, f"http://127.0.0.1:{port}", "default_model", first, tuple(others))
