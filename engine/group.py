"""A stage's tensor group: ranks that divide each layer between them, over MLX's own ring."""

import json
import os
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx


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
        with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as file:
            json.dump([[member] for member in members], file)
        os.environ.update(MLX_RANK=str(rank), MLX_HOSTFILE=file.name)
        try:
            group = mx.distributed.init(strict=True, backend="ring")
        finally:
            Path(file.name).unlink()
            self.close()
        if group.size() != len(members):
            raise RuntimeError(f"it has {group.size()} ranks instead of {len(members)}")
        return group

    def close(self) -> None:
        self._socket.close()
