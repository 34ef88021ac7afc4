"""mDNS: nodes with one key find each other by themselves, those with another one leave each other alone."""

import logging
import socket

import pytest

from bus.counts import Count
from tests.bus.nodes import know_each_other, mesh_of, nodes, until

GROUP = "224.0.0.251"


def _has_multicast() -> bool:
    """A datagram to the group of mDNS comes back on loopback."""
    loopback = socket.inet_aton("127.0.0.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.bind(("", 0))
            one.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP) + loopback)
            one.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, loopback)
            one.settimeout(0.5)
            one.sendto(b"there?", (GROUP, one.getsockname()[1]))
            return one.recv(100) == b"there?"
        except OSError:
            return False


needs_multicast = pytest.mark.skipif(not _has_multicast(), reason="loopback carries no multicast here")


@needs_multicast
async def test_nodes_with_one_key_find_each_other_by_themselves() -> None:
    async with nodes() as them:
        one = await them.open(1, mdns=True)
        two = await them.open(2, mdns=True)
        await know_each_other(one, two)


@needs_multicast
async def test_a_node_with_another_key_is_left_alone_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    async with nodes() as them:
        one = await them.open(1, mdns=True)
        two = await them.open(2, mdns=True, secret="another")
        await until(lambda: one.counts[Count.OTHER_CLUSTERS] + two.counts[Count.OTHER_CLUSTERS] > 0)
        assert mesh_of(one).members == {}
        assert one.counts[Count.REFUSED_JOINS] == 0
    assert "it has another cluster key than this node" in caplog.text


async def test_a_network_without_multicast_keeps_no_node_from_starting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(**options: object) -> None:
        raise OSError(19, "No such device")

    monkeypatch.setattr("bus.discovery.AsyncZeroconf", broken)
    async with nodes() as them:
        with caplog.at_level(logging.WARNING):
            await them.open(1, mdns=True)
            await until(lambda: "Name them with --peer HOST:PORT" in caplog.text)
