"""What MLX is told about RDMA."""

import json
from pathlib import Path

import pytest

from engine.sharding.jaccl import Mesh, NoRdma, check_available, environment, matrix, write_devices

THREE = Mesh(
    (("", "rdma_en2", "rdma_en3"), ("rdma_en5", "", "rdma_en4"), ("rdma_en3", "rdma_en2", "")),
    "10.0.0.1:5000",
)


def test_each_rank_finds_its_devices_and_the_coordinator(tmp_path: Path) -> None:
    file = tmp_path / "devices.json"
    write_devices(THREE, file)
    assert json.loads(file.read_text()) == [
        [None, "rdma_en2", "rdma_en3"],
        ["rdma_en5", None, "rdma_en4"],
        ["rdma_en3", "rdma_en2", None],
    ]
    assert environment(THREE, 2, file) == {
        "MLX_RANK": "2",
        "MLX_IBV_DEVICES": str(file),
        "MLX_JACCL_COORDINATOR": "10.0.0.1:5000",
    }


def test_a_mesh_with_a_hole_is_refused_by_name() -> None:
    with pytest.raises(NoRdma, match="rank 1 has no RDMA device that leads to rank 0"):
        matrix(Mesh((("", "rdma_en2"), ("", "")), "10.0.0.1:5000"))
    with pytest.raises(NoRdma, match="rank 0 names devices for 1 ranks, but there are 2"):
        matrix(Mesh((("",), ("rdma_en2", "")), "10.0.0.1:5000"))


def test_a_machine_without_rdma_says_what_to_do() -> None:
    check_available(True)
    with pytest.raises(NoRdma, match="Choose ring"):
        check_available(False)
