"""The cluster's key: who has it gets in, in a node as in an engine; others see nothing, and are counted."""

import logging
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import zmq

from bus.bus import Bus
from bus.codec import encode
from bus.counts import Count, Counts
from bus.keys import Keys, ZapGate, secure_client, secure_server
from bus.messages.base import NodeId
from bus.messages.envelope import Command
from bus.messages.peers import Greeting
from tests.bus.ends import DEADLINE_S, raw
from tests.bus.nodes import SECRET, mesh_of, nodes, until

OURS, OTHERS = Keys.of(SECRET), Keys.of("wrong")
QUICK_MS = 300
"""Far longer than joining takes."""


def test_one_secret_gives_one_key_pair_and_says_nothing_of_it() -> None:
    assert Keys.of(SECRET) == OURS != OTHERS
    assert zmq.curve_public(OURS.private) == OURS.public
    assert OURS.private.decode() not in repr(OURS)
    assert OURS.fingerprint != OTHERS.fingerprint
    with pytest.raises(ValueError, match="cannot be empty"):
        Keys.of("")


# -- in a process without an event loop, as engines are --------------------------------------------


class Hop:
    """A blocking PULL with a gate, and PUSH sockets of others."""

    def __init__(self, *, gate: bool = True) -> None:
        self.counts = Counts()
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.gate = ZapGate(self.context, OURS, self.counts) if gate else None
        self.pull = self.context.socket(zmq.PULL)
        self.pull.rcvtimeo = int(DEADLINE_S * 1000)
        secure_server(self.pull, OURS)
        self.endpoint = f"tcp://127.0.0.1:{self.pull.bind_to_random_port('tcp://127.0.0.1')}"

    def close(self) -> None:
        self.pull.close(linger=0)
        if self.gate is not None:
            self.gate.close()
            self.gate.close()
        self.context.term()


@contextmanager
def hop(*, gate: bool = True) -> Iterator[Hop]:
    opened = Hop(gate=gate)
    try:
        yield opened
    finally:
        opened.close()


def refused(ours: Hop, times: int) -> None:
    """Wait until so many were refused; nobody is heard meanwhile."""
    deadline = time.monotonic() + DEADLINE_S
    ours.pull.rcvtimeo = 10
    while ours.counts[Count.REFUSED_JOINS] < times:
        assert time.monotonic() < deadline
        with pytest.raises(zmq.Again):
            ours.pull.recv()
    assert ours.counts[Count.REFUSED_JOINS] == times


@contextmanager
def knocking(
    endpoint: str, keys: Keys | None, kind: zmq.SocketType = zmq.PUSH
) -> Iterator[zmq.Socket[bytes]]:
    with raw(kind) as socket:
        if keys is not None:
            secure_client(socket, keys)
        socket.connect(endpoint)
        yield socket


def test_a_blocking_socket_hears_who_has_the_key() -> None:
    with hop() as ours, knocking(ours.endpoint, OURS) as push:
        push.send(b"hidden states")
        assert ours.pull.recv() == b"hidden states"
        assert ours.counts[Count.REFUSED_JOINS] == 0


def test_who_knows_only_the_public_key_is_refused_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    public, private = zmq.curve_keypair()
    with hop() as ours, caplog.at_level(logging.WARNING):
        for number in (1, 2):
            with raw(zmq.PUSH) as push:
                push.curve_serverkey, push.curve_publickey, push.curve_secretkey = (
                    OURS.public,
                    public,
                    private,
                )
                push.connect(ours.endpoint)
                push.send(b"let me in")
                refused(ours, number)
    assert caplog.text.count("Somebody at 127.0.0.1 tried to join") == 1


def test_without_a_gate_nobody_gets_in() -> None:
    with hop(gate=False) as ours, knocking(ours.endpoint, OURS) as push:
        push.send(b"hidden states")
        ours.pull.rcvtimeo = QUICK_MS
        with pytest.raises(zmq.Again):
            ours.pull.recv()


def test_a_context_has_one_gate() -> None:
    with hop() as ours:
        with pytest.raises(OSError, match="has a gate already"):
            ZapGate(ours.context, OURS, ours.counts)


# -- at a node -------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [OTHERS, None], ids=["wrong secret", "no curve"])
async def test_without_the_key_nothing_is_heard_or_seen_and_each_try_is_counted(keys: Keys | None) -> None:
    async with nodes() as them:
        one = await them.open(1)
        greeting = Greeting(NodeId("n-9"), "thief", "0.1", 1.0, 1, 1)
        with knocking(f"tcp://{mesh_of(one).address}", keys, zmq.DEALER) as thief:
            thief.send(encode(Command(1, 1.0, greeting)))
            await until(lambda: one.counts[Count.REFUSED_JOINS] > 0)
            assert not thief.poll(QUICK_MS)
        assert mesh_of(one).members == {}
        assert one.counts[Count.EARLY] == 0


async def test_a_node_with_another_secret_is_told_so_and_stays_out(caplog: pytest.LogCaptureFixture) -> None:
    async with nodes() as them:
        one = await them.open(1)
        two = await them.open(2, one, secret="wrong")
        await until(lambda: one.counts[Count.REFUSED_JOINS] > 0 and "--cluster-key" in caplog.text)
        await until(lambda: f"The node at {mesh_of(one).address} is not reached" in caplog.text)
        assert mesh_of(one).members == mesh_of(two).members == {}
    assert "Somebody at 127.0.0.1 tried to join and was refused" in caplog.text


async def test_a_port_that_is_taken_is_said_with_what_to_do() -> None:
    async with nodes() as them:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            with pytest.raises(OSError, match=r"cannot listen on 127\.0\.0\.1:\d+.*--bus-port"):
                await them.open(1, port=taken.getsockname()[1])


async def test_the_local_sockets_need_no_key() -> None:
    async with nodes() as them:
        one: Bus = await them.open(1)
        with raw(zmq.SUB) as watcher:
            watcher.connect(one.facts_endpoint)
            watcher.subscribe(b"fact")
            await until(lambda: bool(watcher.poll(0)))
