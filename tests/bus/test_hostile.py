"""Rubbish at every socket: each frame is dropped and counted, nothing is raised, and the bus works on."""

import logging
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
import zmq

from bus.bus import Bus, new_identity
from bus.codec import MESSAGE_LIMIT, Undecodable, decode_envelope, decode_news, encode
from bus.counts import Count, Counts
from bus.dealer import Dealer
from bus.messages.engine import Hello, Load, Step
from bus.messages.envelope import Body, Command, Notice, Reply
from bus.messages.facts import Head, Snapshot, Update
from bus.publisher import FACT_TOPIC
from bus.reader import FactReader
from bus.replica import Change
from bus.sockets import DEFAULTS, FRAME_LIMIT
from tests.bus.ends import DEADLINE_S, Remembers, bound, expect, pair_on, raw, received
from tests.bus.examples import EXAMPLES, FACTS, REFUSAL, SUBMIT, UPDATE
from tests.bus.rubbish import mutated, rubbish

FRAMES = 1_000

DROPPED = (Count.MALFORMED, Count.OVERSIZED, Count.UNKNOWN_TYPE)


def dropped(counts: Counts) -> int:
    return sum(counts[count] for count in DROPPED)


def no_messages(decode: Callable[[bytes], object], originals: list[bytes]) -> Iterator[bytes]:
    """Half of them made up, half of them messages with a few bytes changed so that they are none any more."""
    source = random.Random(7)
    yield from rubbish(source, FRAMES // 2)
    left = FRAMES - FRAMES // 2
    while left:
        mutant = mutated(source, source.choice(originals))
        try:
            decode(mutant)
        except Undecodable:
            left -= 1
            yield mutant


ENVELOPES = [
    encode(envelope) for envelope in (Command(1, 1.0, SUBMIT), Notice(Step(1)), Reply(1, REFUSAL), *EXAMPLES)
]


async def test_a_router_drops_what_an_expected_peer_should_not_have_said(bus: Bus) -> None:
    identity = new_identity()
    node = Remembers()
    expect(bus, identity, node)
    with raw(zmq.DEALER, routing_id=identity) as broken:
        broken.connect(bus.commands_endpoint)
        for data in no_messages(decode_envelope, ENVELOPES):
            broken.send(data)
        broken.send(encode(Notice(Hello(1))))
        await node.until("Hello")
        assert node.happened == ["arrived", "Hello"]
        assert dropped(bus.counts) == FRAMES
    async with pair_on(bus) as pair:
        await pair.works()


async def test_a_router_drops_whatever_strangers_say(bus: Bus) -> None:
    async with pair_on(bus) as pair:
        with raw(zmq.DEALER) as stranger:
            stranger.connect(bus.commands_endpoint)
            for data in no_messages(decode_envelope, ENVELOPES):
                stranger.send_multipart([data, data] if len(data) % 2 else [data])
            while bus.counts[Count.STRANGER] < FRAMES:
                await pair.works()
        assert dropped(bus.counts) == 0
        assert pair.node.happened.count("Hello") == 1


async def test_a_router_drops_messages_of_more_or_fewer_frames(bus: Bus) -> None:
    identity = new_identity()
    node = Remembers()
    expect(bus, identity, node)
    with raw(zmq.DEALER, routing_id=identity) as broken:
        broken.connect(bus.commands_endpoint)
        broken.send_multipart([b"", encode(Notice(Hello(1)))])
        broken.send_multipart([encode(Notice(Hello(1)))] * 3)
        broken.send(encode(Notice(Load("p"))))
        await node.until("Load")
    assert node.happened[:2] == ["arrived", "Load"]
    assert bus.counts[Count.MALFORMED] == 2


async def test_a_dealer_drops_what_a_node_should_not_have_said() -> None:
    with raw(zmq.ROUTER, sndhwm=0) as broken:
        engine = Remembers()
        dealer = Dealer.connect(bound(broken), b"engine", engine.answer)
        dealer.notify(Hello(1))
        await received(broken)
        for data in no_messages(decode_envelope, ENVELOPES):
            broken.send_multipart([b"engine", data])
        broken.send_multipart([b"engine", b"", encode(Notice(Load("p")))])
        broken.send_multipart([b"engine", encode(Command(5, 1.0, Load("p")))])
        await engine.until("Load")
        assert engine.heard == [Load("p")]
        assert dropped(dealer.counts) == FRAMES + 1
        while (await received(broken))[1] != encode(Reply(5)):
            pass
        dealer.close()


async def test_a_reader_drops_what_a_publisher_should_not_have_said() -> None:
    with raw(zmq.XPUB, sndhwm=0) as broken, raw(zmq.ROUTER) as desk:
        facts, commands = bound(broken), bound(desk)
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        counts, heard = Counts(), Remembers()

        def apply(changes: tuple[Change, ...]) -> None:
            heard.arrived()

        def mend(body: Body) -> None:
            assert isinstance(body, Snapshot)
            reader.mend(body)

        dealer = Dealer(context, commands, b"reader", mend, counts, DEFAULTS)
        reader = FactReader(context, facts, dealer.notify, apply, counts, DEFAULTS)
        assert await received(broken) == [b"\x01" + FACT_TOPIC]
        identity, _ = await received(desk)
        desk.send_multipart([identity, encode(Notice(Snapshot("s", 1, FACTS)))])
        await heard.until("arrived")

        originals = [encode(message) for message in (UPDATE, Head("s", 1), *EXAMPLES)]
        for data in no_messages(decode_news, originals):
            broken.send_multipart([FACT_TOPIC, data])
        broken.send_multipart([FACT_TOPIC])
        broken.send_multipart([FACT_TOPIC + b"ory", encode(UPDATE)])
        broken.send_multipart([FACT_TOPIC, encode(Update("s", 2, "node/n-2", FACTS["node/n-1"]))])
        await heard.until("arrived", 2)
        assert reader.replica.facts == {**FACTS, "node/n-2": FACTS["node/n-1"]}
        assert dropped(counts) == FRAMES + 2
        reader.close()
        dealer.close(linger_s=0)
        context.term()


async def test_a_publisher_drops_what_is_no_subscription(bus: Bus) -> None:
    source = random.Random(3)
    with raw(zmq.XSUB, sndhwm=0) as broken:
        broken.connect(bus.facts_endpoint)
        broken.send(b"\x01" + FACT_TOPIC)
        await received(broken)
        for data in rubbish(source, FRAMES):
            broken.send(b"\x02" + data)
        async with pair_on(bus) as pair:
            while bus.counts[Count.MALFORMED] < FRAMES:
                await pair.works()
            await pair.works()


async def test_a_large_message_is_counted_and_a_huge_one_ends_its_connection_only(bus: Bus) -> None:
    identity = new_identity()
    node = Remembers()
    expect(bus, identity, node)
    async with pair_on(bus) as pair:
        with raw(zmq.DEALER, routing_id=identity) as broken:
            broken.connect(bus.commands_endpoint)
            broken.send(bytes(MESSAGE_LIMIT + 1))
            broken.send(encode(Notice(Hello(1))))
            await node.until("Hello")
            assert bus.counts[Count.OVERSIZED] == 1
            broken.send(bytes(FRAME_LIMIT + 1))
            await node.until("gone")
            broken.send(encode(Notice(Hello(2))))
            await node.until("Hello", 2)
        await pair.works()
        assert "gone" not in pair.node.happened


async def test_bytes_that_are_not_zeromq_get_nowhere(bus: Bus) -> None:
    """At most they pass for a stranger's: to ZeroMQ's oldest protocol almost any bytes are a message."""
    source = random.Random(5)
    http = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with pair_on(bus) as pair:
        for endpoint in (bus.commands_endpoint, bus.facts_endpoint):
            host, port = endpoint.removeprefix("tcp://").split(":")
            for data in (http, bytes(1_000), *(source.randbytes(200) for _ in range(30))):
                with socket.create_connection((host, int(port)), timeout=DEADLINE_S) as plain:
                    with suppress(ConnectionError):
                        plain.sendall(data)
        await pair.works()
        assert set(pair.node.happened) == {"arrived", "Hello", "Beat"}


async def test_each_kind_of_drop_is_logged_once_per_peer(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    identity = new_identity()
    node = Remembers()
    expect(bus, identity, node, name="engine 7")
    with caplog.at_level(logging.WARNING), raw(zmq.DEALER, routing_id=identity) as broken:
        broken.connect(bus.commands_endpoint)
        for _ in range(100):
            broken.send(b"\xc1")
            broken.send(encode(UPDATE))
        broken.send(encode(Notice(Hello(1))))
        await node.until("Hello")
    logged = [record.getMessage() for record in caplog.records if record.name == "bus.counts"]
    assert len(logged) == 2
    assert all("of engine 7" in line for line in logged)
    assert (bus.counts[Count.MALFORMED], bus.counts[Count.UNKNOWN_TYPE]) == (100, 100)
