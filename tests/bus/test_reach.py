"""Which address a node tells others to call, where it listens on all that its machine has."""

from dataclasses import replace

from bus import reach
from bus.bus import Bus
from bus.cluster import parse
from bus.messages.base import NodeId
from tests.bus.nodes import LIVELY, cluster, know_each_other, mesh_of


def test_an_address_that_is_one_is_told_as_it_is() -> None:
    assert reach.own_address("192.168.1.20", ["10.0.0.1:1"]) == "192.168.1.20"
    assert reach.own_address("attic.local") == "attic.local"


def test_of_several_it_is_the_one_on_the_way_to_the_first_peer() -> None:
    assert reach.own_address("0.0.0.0", ["attic.local:1", "127.0.0.1:1"]) == "127.0.0.1"


def test_without_a_peer_it_is_one_of_the_machines_own_that_others_can_call() -> None:
    own = reach.all_addresses()
    assert reach.own_address("0.0.0.0") in (own or ["127.0.0.1"])


async def test_nodes_that_listen_everywhere_are_found_at_the_addresses_that_they_tell() -> None:
    one = await Bus.open(NodeId("n-1"), limits=LIVELY, cluster=replace(cluster("node 1"), listen="0.0.0.0"))
    try:
        address = mesh_of(one).address
        assert parse(address).host == mesh_of(one).host != "0.0.0.0"
        told = replace(cluster("node 2", address), listen="0.0.0.0")
        two = await Bus.open(NodeId("n-2"), limits=LIVELY, cluster=told)
        try:
            await know_each_other(one, two)
            assert mesh_of(one).members[two.node].address == mesh_of(two).address
        finally:
            await two.close()
    finally:
        await one.close()
