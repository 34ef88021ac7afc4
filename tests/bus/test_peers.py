"""Peers: not there yet, strangers, killed, hung, back again, forgotten; whoever waits is told."""

import asyncio
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from signal import SIGKILL, SIGSTOP

import pytest
import zmq

from bus.bus import Bus, new_identity
from bus.codec import encode
from bus.counts import Count
from bus.dealer import Dealer
from bus.errors import PeerGone
from bus.messages.base import NodeId
from bus.messages.engine import Beat, Hello, Load, Shutdown
from bus.messages.envelope import Notice
from bus.sockets import Limits
from tests.bus.ends import DEADLINE_S, Remembers, expect, pair_on, raw

# -- nobody there ----------------------------------------------------------------------------------


async def test_a_peer_that_has_not_come_yet_is_gone(bus: Bus) -> None:
    peer = expect(bus, new_identity(), Remembers())
    assert not peer.present
    assert not peer.notify(Beat(1))
    with pytest.raises(PeerGone, match="engine 1 is not connected: Load not sent"):
        await peer.command(Load("p"), DEADLINE_S)
    assert bus.counts[Count.UNSENT] == 2


async def test_a_forgotten_peer_is_gone_and_its_last_words_are_no_strangers(bus: Bus) -> None:
    async with pair_on(bus) as pair, pair_on(bus) as other:
        waiting = asyncio.ensure_future(pair.peer.command(Load("p"), DEADLINE_S))
        await asyncio.sleep(0)
        pair.peer.forget()
        with pytest.raises(PeerGone, match="no longer expected"):
            await waiting
        assert not pair.peer.notify(Beat(1))
        with pytest.raises(PeerGone):
            await pair.peer.command(Load("p"), DEADLINE_S)
        late = bus.counts[Count.LATE]
        pair.dealer.notify(Beat(1))
        while bus.counts[Count.LATE] == late:
            await other.works()
    assert bus.counts[Count.STRANGER] == 0


async def test_two_peers_cannot_have_the_same_routing_id(bus: Bus) -> None:
    identity = new_identity()
    expect(bus, identity, Remembers())
    with pytest.raises(ValueError, match="engine 1 has this routing id already"):
        expect(bus, identity, Remembers())


async def test_a_stranger_is_counted_and_not_heard(bus: Bus) -> None:
    async with pair_on(bus) as pair:
        with raw(zmq.DEALER) as stranger:
            stranger.connect(bus.commands_endpoint)
            for _ in range(5):
                stranger.send(encode(Notice(Hello(1))))
            while bus.counts[Count.STRANGER] < 5:
                await pair.works()
        assert pair.node.happened.count("Hello") == 1


# -- lost peers ------------------------------------------------------------------------------------


@asynccontextmanager
async def engine_process(bus: Bus, identity: bytes) -> AsyncIterator[Process]:
    arguments = ("-m", "tests.bus.peer_process", bus.commands_endpoint, identity.hex())
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(SIGKILL)
        await process.wait()


async def test_a_process_that_is_killed_is_gone_at_once(bus: Bus) -> None:
    """Without waiting for the command's deadline, which is far beyond this test's own."""
    node = Remembers()
    identity = new_identity()
    peer = expect(bus, identity, node)
    async with engine_process(bus, identity) as process:
        await node.until("Hello")
        await peer.command(Load("p"), DEADLINE_S)
        # It is stopped first, so that it cannot answer before it is killed.
        process.send_signal(SIGSTOP)
        waiting = asyncio.ensure_future(peer.command(Load("p"), 3600.0))
        await asyncio.sleep(0)
        process.send_signal(SIGKILL)
        with pytest.raises(PeerGone, match="its connection ended"):
            await waiting
        await node.until("gone")
        assert not peer.present
        assert not peer.notify(Shutdown())


async def test_a_process_that_hangs_with_its_host_is_gone_after_the_heartbeats_limit() -> None:
    bus = await Bus.open(NodeId("n-1"), limits=Limits(heartbeat_ms=20, engine_silence_ms=200))
    node = Remembers()
    identity = new_identity()
    expect(bus, identity, node)
    async with engine_process(bus, identity) as process:
        await node.until("Hello")
        process.send_signal(SIGSTOP)
        await node.until("gone")
    await bus.close()


async def test_last_words_are_heard_before_the_end(bus: Bus) -> None:
    node = Remembers()
    identity = new_identity()
    peer = expect(bus, identity, node)
    async with engine_process(bus, identity) as process:
        await node.until("Hello")
        await peer.command(Shutdown(), DEADLINE_S)
        await node.until("gone")
        assert await process.wait() == 0
    assert node.happened == ["arrived", "Hello", "PhaseChange", "gone"]


async def test_a_peer_that_only_drops_its_last_words_arrives_and_goes(bus: Bus) -> None:
    node = Remembers()
    identity = new_identity()
    expect(bus, identity, node)
    with raw(zmq.DEALER, routing_id=identity) as brief:
        brief.connect(bus.commands_endpoint)
        brief.send(encode(Notice(Hello(1))))
        brief.close(linger=1000)
        await node.until("gone")
    assert node.happened == ["arrived", "Hello", "gone"]


async def test_a_peer_that_connects_anew_has_been_gone(bus: Bus) -> None:
    node = Remembers()
    identity = new_identity()
    expect(bus, identity, node)
    for times in (1, 2):
        dealer = Dealer.connect(bus.commands_endpoint, identity, lambda body: None)
        dealer.notify(Hello(times))
        await node.until("Hello", times)
        dealer.close()
        await node.until("gone", times)
    assert node.happened == 2 * ["arrived", "Hello", "gone"]


async def test_of_two_that_claim_a_routing_id_the_newer_is_the_peer(bus: Bus) -> None:
    """So that one that connects again is not locked out until its old connection is known to be dead."""
    async with pair_on(bus) as pair:
        newer = Remembers()
        dealer = Dealer.connect(bus.commands_endpoint, pair.peer.identity, newer.answer)
        dealer.notify(Hello(2))
        await pair.node.until("Hello", 2)
        await pair.peer.command(Load("p"), DEADLINE_S)
        assert newer.heard == [Load("p")]
        assert pair.engine.heard == []
        dealer.close()
    assert pair.node.happened == ["arrived", "Hello", "gone", "arrived", "Hello"]
