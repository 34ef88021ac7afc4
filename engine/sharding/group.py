"""A group of ranks that compute or send arrays by MLX's own means: its ring, or RDMA."""

import json
import os
import socket
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import mlx.core as mx

from engine.sharding.jaccl import Mesh, environment, write_devices

HEAD_START_S: Final = 0.1
"""The last rank of a ring calls the first before it listens itself; the others listen first. Whoever calls in
vain is let wait a whole second by MLX, so it gives the others time to listen."""


class Place:
    """A free port that is kept free until the group is made: MLX binds it, too, when it may be shared."""

    def __init__(self, address: str) -> None:
        """Raises OSError."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            self._socket.bind((address, 0))
        except OSError:
            self._socket.close()
            raise
        self.endpoint = f"{address}:{self._socket.getsockname()[1]}"

    def join(self, members: Sequence[str], rank: int) -> mx.distributed.Group:
        """Make the group of these, in rank order; once per process.

        Waits for all of them, and holds the interpreter meanwhile. Raises RuntimeError if one can't be
        reached.
        """
        with tempfile.TemporaryDirectory() as folder:
            hosts = Path(folder, "hosts.json")
            hosts.write_text(json.dumps([[member] for member in members]))
            os.environ.update(MLX_RANK=str(rank), MLX_HOSTFILE=str(hosts))
            if rank == len(members) - 1:
                time.sleep(HEAD_START_S)
            return self._init("ring", len(members))

    def join_by_rdma(self, mesh: Mesh, rank: int) -> mx.distributed.Group:
        """The same with jaccl; raises NoRdma for a mesh with a hole."""
        with tempfile.TemporaryDirectory() as folder:
            devices = Path(folder, "devices.json")
            write_devices(mesh, devices)
            os.environ.update(environment(mesh, rank, devices))
            return self._init("jaccl", len(mesh.devices))

    def _init(self, backend: str, members: int) -> mx.distributed.Group:
        try:
            group = mx.distributed.init(strict=True, backend=backend)
        finally:
            self.close()
        if group.size() != members:
            raise RuntimeError(f"it has {group.size()} ranks instead of {members}")
        return group

    def close(self) -> None:
        self._socket.close()
