"""Facts over real sockets: late, lossy and slow readers, and restarted publishers, all end up equal."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import msgpack
import msgspec
import pytest
import zmq

from bus.backoff import Backoff
from bus.bus import Bus, new_identity
from bus.codec import MESSAGE_LIMIT, encode
from bus.counts import Count
from bus.errors import TooLarge
from bus.messages.base import NodeId
from bus.messages.envelope import Notice
from bus.messages.facts import Fact, Head, RequestFact, Snapshot, Update
from bus.publisher import FACT_TOPIC
from bus.sockets import Limits
from tests.bus.conftest import BRISK
from tests.bus.ends import DEADLINE_S, bound, raw, received
from tests.bus.examples import MODEL, NODE, request
from tests.bus.followers import Follower, following


@asynccontextmanager
async def opened(limits: Limits) -> AsyncIterator[Bus]:
    bus = await Bus.open(NodeId("n-1"), limits=limits)
    try:
        yield bus
    finally:
        await bus.close()


async def settled(bus: Bus, facts: dict[str, Fact]) -> None:
    """Wait until the bus's own view holds exactly these."""
    changes = bus.view.changes()
    async with asyncio.timeout(DEADLINE_S):
        while bus.view.facts() != facts:
            await anext(changes)


# -- the node's own view ---------------------------------------------------------------------------


async def test_what_a_node_publishes_is_in_its_view(bus: Bus) -> None:
    bus.publish("node/n-1", NODE)
    bus.publish("model/n-1/m", MODEL)
    await settled(bus, {"node/n-1": NODE, "model/n-1/m": MODEL})
    bus.withdraw("model/n-1/m")
    await settled(bus, {"node/n-1": NODE})


async def test_changes_come_in_the_order_of_publishing(bus: Bus) -> None:
    changes = bus.view.changes()
    for number in range(500):
        bus.publish(f"request/{number}", request(number))
    assert [(await anext(changes))[0] for _ in range(500)] == [f"request/{number}" for number in range(500)]


async def test_any_thread_may_publish_and_each_ones_order_is_kept(bus: Bus) -> None:
    def publish(thread: int) -> None:
        for tokens in range(300):
            bus.publish(f"request/{thread}", request(thread, tokens=tokens))

    seen: dict[str, list[int]] = {}

    def hear(key: str, fact: Fact | None) -> None:
        assert isinstance(fact, RequestFact)
        seen.setdefault(key, []).append(fact.generated_tokens)

    bus.view.listen(hear)
    threads = [threading.Thread(target=publish, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    await settled(bus, {f"request/{number}": request(number, tokens=299) for number in range(4)})
    for thread in threads:
        thread.join()
    assert all(tokens == sorted(set(tokens)) for tokens in seen.values())
    assert bus.counts[Count.HANDLER_ERRORS] == 0


async def test_what_is_no_news_is_not_published(bus: Bus) -> None:
    with following(bus) as follower:
        bus.publish("node/n-1", NODE)
        bus.publish("node/n-1", NODE)
        bus.withdraw("nobody/knows")
        bus.publish("model/n-1/m", MODEL)
        await follower.holds({"node/n-1": NODE, "model/n-1/m": MODEL})
        assert follower.reader.replica.number == 2


async def test_too_large_a_fact_is_its_owners_fault(bus: Bus) -> None:
    with pytest.raises(TooLarge):
        bus.publish("node/n-1", msgspec.structs.replace(NODE, name="x" * MESSAGE_LIMIT))
    bus.publish("model/n-1/m", MODEL)
    await settled(bus, {"model/n-1/m": MODEL})


# -- readers that miss something -------------------------------------------------------------------


async def test_a_late_joiner_gets_everything(bus: Bus) -> None:
    facts: dict[str, Fact] = {}
    for number in range(2_000):
        facts[f"request/{number}"] = request(number)
        bus.publish(f"request/{number}", request(number))
    with following(bus) as follower:
        await follower.holds(facts)
        bus.withdraw("request/0")
        del facts["request/0"]
        await follower.holds(facts)


@pytest.mark.parametrize("loss", [0.2, 0.6])
@pytest.mark.parametrize("kept", [20, 1_000])
async def test_readers_that_lose_what_is_published_converge(loss: float, kept: int) -> None:
    """With a long memory of the publisher by updates sent again, with a short one by snapshots too."""
    async with opened(replace(BRISK, kept=kept)) as bus:
        with following(bus) as one, following(bus) as other:
            one.reader.loss = other.reader.loss = loss
            facts: dict[str, Fact] = {}
            for number in range(2_000):
                key = f"request/{number % 97}"
                if number % 5 == 4:
                    facts.pop(key, None)
                    bus.withdraw(key)
                else:
                    facts[key] = request(number)
                    bus.publish(key, request(number))
                if number % 50 == 0:
                    await asyncio.sleep(0)
            await one.holds(facts)
            await other.holds(facts)
            assert one.reader.lost > 0
            assert one.counts[Count.GAPS] > 1


async def test_a_burst_beyond_every_queue_is_mended() -> None:
    """More at once than the queues hold, so that ZeroMQ itself drops most of it, in silence."""
    async with opened(replace(BRISK, facts=10)) as bus:
        with following(bus, replace(BRISK, facts=10)) as follower:
            await follower.reader.caught_up(DEADLINE_S)
            facts: dict[str, Fact] = {}
            for number in range(20_000):
                facts[f"request/{number % 97}"] = request(number)
                bus.publish(f"request/{number % 97}", request(number))
            await follower.holds(facts)
            await settled(bus, facts)
            assert follower.counts[Count.GAPS] > 1


async def test_a_reader_follows_a_restarted_publisher() -> None:
    """Same endpoints, another session: what the new one does not say is gone."""
    identity = new_identity()
    with raw(zmq.XPUB) as pub, raw(zmq.ROUTER) as desk:
        endpoints = [
            f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}" for socket in (pub, desk)
        ]
        follower = Follower(endpoints[0], endpoints[1], identity)
        await received(pub)
        await received(desk)
        desk.send_multipart([identity, encode(Notice(Snapshot("old", 9, {"a": NODE, "b": MODEL})))])
        await follower.holds({"a": NODE, "b": MODEL})

        pub.send_multipart([FACT_TOPIC, encode(Update("new", 1, "b", NODE))])
        asked = {"type": "Since", "session": "old", "number": 9}
        while msgpack.unpackb((await received(desk))[1])["body"] != asked:
            pass
        desk.send_multipart([identity, encode(Notice(Snapshot("new", 1, {"b": NODE})))])
        await follower.holds({"b": NODE})
        pub.send_multipart([FACT_TOPIC, encode(Update("new", 2, "c", MODEL))])
        await follower.holds({"b": NODE, "c": MODEL})
        follower.close()


async def test_a_reader_asks_again_while_there_is_no_answer() -> None:
    identity = new_identity()
    with raw(zmq.ROUTER) as desk:
        follower = Follower("tcp://127.0.0.1:9", bound(desk), identity)
        for _ in range(4):
            asked = msgpack.unpackb((await received(desk))[1])
            assert asked == {"type": "Notice", "body": {"type": "Since", "session": "", "number": 0}}
        desk.send_multipart([identity, encode(Notice(Snapshot("s", 1, {"a": NODE})))])
        await follower.holds({"a": NODE})
        assert not follower.reader.replica.behind
        follower.close()


async def test_a_head_tells_of_a_loss_that_no_update_follows() -> None:
    identity = new_identity()
    with raw(zmq.XPUB) as pub, raw(zmq.ROUTER) as desk:
        endpoints = [
            f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}" for socket in (pub, desk)
        ]
        follower = Follower(endpoints[0], endpoints[1], identity, Limits(patience=Backoff(3600.0, 3600.0)))
        await received(pub)
        await received(desk)
        desk.send_multipart([identity, encode(Notice(Snapshot("s", 1, {"a": NODE})))])
        await follower.holds({"a": NODE})
        pub.send_multipart([FACT_TOPIC, encode(Head("s", 2))])
        asked = msgpack.unpackb((await received(desk))[1])
        assert asked["body"] == {"type": "Since", "session": "s", "number": 1}
        follower.close()


async def test_a_fact_that_only_a_newer_version_knows_is_passed_over() -> None:
    """It is counted; the numbers go on, so that its reader does not ask for it again and again."""
    identity = new_identity()
    with raw(zmq.XPUB) as pub, raw(zmq.ROUTER) as desk:
        endpoints = [
            f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}" for socket in (pub, desk)
        ]
        follower = Follower(endpoints[0], endpoints[1], identity, Limits(patience=Backoff(3600.0, 3600.0)))
        await received(pub)
        await received(desk)
        link = {"type": "LinkFact", "latency_ms": 0.1}
        facts = {"link/1": link, "node/n-1": msgpack.unpackb(encode(NODE))}
        snapshot = {"type": "Snapshot", "session": "s", "number": 2, "facts": facts}
        desk.send_multipart([identity, msgpack.packb({"type": "Notice", "body": snapshot})])
        await follower.holds({"node/n-1": NODE})
        update = {"type": "Update", "session": "s", "number": 3, "key": "link/2", "fact": link}
        pub.send_multipart([FACT_TOPIC, msgpack.packb(update)])
        pub.send_multipart([FACT_TOPIC, encode(Update("s", 4, "model/n-1/m", MODEL))])
        await follower.holds({"node/n-1": NODE, "model/n-1/m": MODEL})
        assert follower.counts[Count.UNKNOWN_TYPE] == 2
        assert follower.counts[Count.GAPS] == 1
        follower.close()


# -- on the wire -----------------------------------------------------------------------------------


async def test_facts_on_the_wire_are_plain_messagepack_maps(bus: Bus) -> None:
    with raw(zmq.SUB) as plain:
        plain.connect(bus.facts_endpoint)
        plain.subscribe(b"fact")
        topic, head = await received(plain)
        assert topic == b"fact"
        read = msgpack.unpackb(head)
        assert (read["type"], read["number"]) == ("Head", 0)
        assert read["session"].startswith("n-1/")
        bus.publish("model/n-1/m", MODEL)
        read = msgpack.unpackb((await received(plain))[1])
        while read["type"] == "Head":
            read = msgpack.unpackb((await received(plain))[1])
    assert (read["type"], read["number"], read["key"]) == ("Update", 1, "model/n-1/m")
    assert (read["fact"]["type"], read["fact"]["id"]) == ("ModelFact", "org/name")
