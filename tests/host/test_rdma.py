"""RDMA is offered only where a port is connected, and otherwise a person is told what to do."""

import pytest

from host import rdma

MACOS = """\
hca_id:\trdma_en4
\ttransport:\t\t\tThunderbolt (100)
\tnode_guid:\t\t\t0000:0000:0000:0001
\tsys_image_guid:\t\t\t0000:0000:0000:0001
\tvendor_id:\t\t\t0x0000
\tvendor_part_id:\t\t\t0
\thw_ver:\t\t\t\t0x0
\tphys_port_cnt:\t\t\t1
\t\tport:\t1
\t\t\tstate:\t\t\tPORT_DOWN (1)
\t\t\tmax_mtu:\t\t4096 (5)
\t\t\tactive_mtu:\t\t4096 (5)
\t\t\tsm_lid:\t\t\t1
\t\t\tport_lid:\t\t1
\t\t\tport_lmc:\t\t0x00
\t\t\tlink_layer:\t\tThunderbolt

hca_id:\trdma_en5
\ttransport:\t\t\tThunderbolt (100)
\tnode_guid:\t\t\t0000:0000:0000:0002
\tphys_port_cnt:\t\t\t1
\t\tport:\t1
\t\t\tstate:\t\t\tPORT_ACTIVE (4)
\t\t\tmax_mtu:\t\t4096 (5)
\t\t\tlink_layer:\t\tThunderbolt
"""

LINUX = """\
hca_id: mlx5_0
        transport:                      InfiniBand (0)
        fw_ver:                         28.39.2048
        node_guid:                      58a2:e103:002a:09b8
        vendor_id:                      0x02c9
        hw_ver:                         0x0
        board_id:                       MT_0000000838
        phys_port_cnt:                  2
                port:   1
                        state:                  PORT_DOWN (1)
                        max_mtu:                4096 (5)
                        link_layer:             InfiniBand

                port:   2
                        state:                  PORT_ACTIVE (4)
                        max_mtu:                4096 (5)
                        link_layer:             InfiniBand
"""

NOTHING = "No IB devices found\n"


def test_devices_are_listed_with_the_states_of_their_ports() -> None:
    assert rdma.parse_devinfo(MACOS) == {"rdma_en4": ("DOWN",), "rdma_en5": ("ACTIVE",)}
    assert rdma.parse_devinfo(LINUX) == {"mlx5_0": ("DOWN", "ACTIVE")}
    assert rdma.parse_devinfo(NOTHING) == {}


def test_a_mac_offers_the_ports_that_are_connected() -> None:
    assert rdma.on_macos("enabled\n", MACOS) == rdma.Rdma(("rdma_en5",))


@pytest.mark.parametrize(
    ("status", "devices", "problem"),
    [
        (None, None, "macOS 26.2 or later"),
        ("disabled\n", NOTHING, "rdma_ctl enable"),
        ("enabled\n", NOTHING, "it takes Thunderbolt 5"),
        ("enabled\n", None, "it takes Thunderbolt 5"),
        ("enabled\n", MACOS.replace("ACTIVE", "DOWN"), "no cable is connected to rdma_en4, rdma_en5"),
    ],
)
def test_a_mac_that_cannot_says_what_to_do(status: str | None, devices: str | None, problem: str) -> None:
    found = rdma.on_macos(status, devices)
    assert found.devices == ()
    assert problem in found.problem


def test_on_linux_mlx_has_no_use_for_it_whatever_is_there() -> None:
    assert rdma.on_linux(LINUX) == rdma.Rdma((), "mlx5_0 is there, but MLX uses RDMA on macOS only")
    assert rdma.on_linux(NOTHING) == rdma.on_linux(None) == rdma.Rdma((), "there is no RDMA device")


def test_this_machine_answers_one_way_or_the_other() -> None:
    found = rdma.read()
    assert bool(found.devices) != bool(found.problem)
