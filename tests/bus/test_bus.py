"""A node's sockets together: they open, close, leave nothing behind and do not disturb each other."""

import asyncio
import socket
import threading

import psutil
import pytest

from bus.bus import Bus
from bus.errors import PeerGone
from bus.messages.base import NodeId
from bus.messages.engine import Load
from tests.bus.ends import DEADLINE_S, Pair, pair_on
from tests.bus.examples import MODEL, NODE
from tests.bus.nodes import until


def _open_now() -> dict[str, int]:
    process = psutil.Process()
    return {
        "file descriptors": process.num_fds(),
        "threads": process.num_threads(),
        "sockets": len(process.net_connections()),
    }


def _more_than(before: dict[str, int]) -> dict[str, int]:
    """How many more there are of what; what an earlier test began may well end meanwhile."""
    return {what: count - before[what] for what, count in _open_now().items() if count > before[what]}


async def test_it_listens_on_loopback_unless_told_otherwise(bus: Bus) -> None:
    assert bus.facts_endpoint.startswith("tcp://127.0.0.1:")
    assert bus.commands_endpoint.startswith("tcp://127.0.0.1:")
    assert bus.facts_endpoint != bus.commands_endpoint


async def test_an_address_that_is_not_ours_is_an_error_and_leaves_nothing_open() -> None:
    await (await Bus.open(NodeId("n-1"))).close()
    before = _open_now()
    with pytest.raises(OSError, match=r"192\.0\.2\.1"):
        await Bus.open(NodeId("n-1"), "192.0.2.1")
    await until(lambda: _more_than(before) == {})


async def test_nothing_is_left_open_at_its_close() -> None:
    await (await Bus.open(NodeId("n-1"))).close()
    before = _open_now()
    for _ in range(20):
        bus = await Bus.open(NodeId("n-1"))
        async with pair_on(bus) as pair:
            bus.publish("node/n-1", NODE)
            await pair.works()
        await bus.close()
    await until(lambda: _more_than(before) == {})


async def test_a_close_ends_what_still_waits(bus: Bus) -> None:
    other = await Bus.open(NodeId("n-2"))
    pair = Pair(other)
    await pair.node.until("Hello")
    waiting = asyncio.ensure_future(pair.peer.command(Load("p"), DEADLINE_S))
    await asyncio.sleep(0)
    await other.close()
    with pytest.raises(PeerGone):
        await waiting
    with pytest.raises(PeerGone):
        await pair.peer.command(Load("p"), DEADLINE_S)
    assert not pair.peer.notify(Load("p"))
    pair.dealer.close()
    assert not pair.dealer.notify(Load("p"))


async def test_closing_again_and_publishing_after_it_do_nothing() -> None:
    bus = await Bus.open(NodeId("n-1"))
    bus.publish("node/n-1", NODE)
    await bus.close()
    await bus.close()
    bus.publish("model/n-1/m", MODEL)
    bus.withdraw("node/n-1")


async def test_a_thread_that_publishes_through_the_close_is_not_harmed() -> None:
    bus = await Bus.open(NodeId("n-1"))
    begun, enough = threading.Event(), threading.Event()
    failures: list[BaseException] = []

    def publish() -> None:
        try:
            while not enough.is_set():
                bus.publish("node/n-1", NODE)
                bus.withdraw("node/n-1")
                begun.set()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=publish)
    thread.start()
    await asyncio.to_thread(begun.wait)
    await bus.close()
    enough.set()
    thread.join()
    assert failures == []


async def test_two_buses_are_two_worlds(bus: Bus) -> None:
    other = await Bus.open(NodeId("n-2"))
    changes, others = bus.view.changes(), other.view.changes()
    bus.publish("node/n-1", NODE)
    other.publish("model/n-2/m", MODEL)
    assert await anext(changes) == ("node/n-1", NODE)
    assert await anext(others) == ("model/n-2/m", MODEL)
    assert bus.view.facts() == {"node/n-1": NODE}
    assert other.view.facts() == {"model/n-2/m": MODEL}
    await other.close()


async def test_a_flood_of_callers_stops_neither_zeromqs_thread_nor_the_close() -> None:
    """That thread reports each caller, and would wait for ever for a loop that is busy, or is closing."""
    bus = await Bus.open(NodeId("n-1"))
    host, port = bus.commands_endpoint.removeprefix("tcp://").split(":")
    for _ in range(1_500):
        with socket.create_connection((host, int(port)), timeout=DEADLINE_S) as caller:
            assert caller.recv(1) == b"\xff"  # it answers, with the first byte of its greeting
    await bus.close()
