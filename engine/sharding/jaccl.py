"""RDMA between ranks (`jaccl`): how MLX is told which device of this machine leads to which rank.

Only machines with RDMA over Thunderbolt and an MLX that is built for it can use this; who can't is told why.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx


class NoRdma(Exception):
    """It can't be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Mesh:
    """A group of ranks that reach each other by RDMA, each by each."""

    devices: tuple[tuple[str, ...], ...]
    """Row r, column c: rank r's device that leads to rank c, such as `rdma_en5`; empty for itself."""
    coordinator: str
    """HOST:PORT of rank 0, an IPv4 address, where the ranks find each other."""


def matrix(mesh: Mesh) -> list[list[str | None]]:
    """As MLX reads it. Raises NoRdma for a mesh with a hole: jaccl has no way around it."""
    ranks = len(mesh.devices)
    rows: list[list[str | None]] = []
    for rank, row in enumerate(mesh.devices):
        if len(row) != ranks:
            raise NoRdma(f"rank {rank} names devices for {len(row)} ranks, but there are {ranks}")
        for other, device in enumerate(row):
            if other != rank and not device:
                raise NoRdma(
                    f"rank {rank} has no RDMA device that leads to rank {other}: connect every machine with "
                    "every other by Thunderbolt, or choose ring"
                )
        rows.append([device if other != rank else None for other, device in enumerate(row)])
    return rows


def environment(mesh: Mesh, rank: int, devices_file: Path) -> dict[str, str]:
    """What MLX reads at `init(backend="jaccl")`; `devices_file` is where `write_devices` wrote."""
    return {
        "MLX_RANK": str(rank),
        "MLX_IBV_DEVICES": str(devices_file),
        "MLX_JACCL_COORDINATOR": mesh.coordinator,
    }


def write_devices(mesh: Mesh, file: Path) -> None:
    """For MLX to read. Raises NoRdma for a mesh with a hole."""
    file.write_text(json.dumps(matrix(mesh)))


def check_available(available: bool | None = None) -> None:
    """Raises NoRdma where this machine's MLX has no RDMA. `available`: whether it has; None: ask it."""
    if not (mx.distributed.is_available("jaccl") if available is None else available):
        raise NoRdma(
            "this machine's MLX has no RDMA (jaccl): it needs macOS 26.2 or later with RDMA over Thunderbolt "
            "turned on (`rdma_ctl enable` in Recovery). Choose ring, which works everywhere"
        )
