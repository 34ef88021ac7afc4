"""Who watches the bus sees what passes, not what it says; and while nobody does, nothing is published."""

import msgpack
import zmq

from bus.bus import Bus
from bus.messages.engine import Beat, Load
from tests.bus.ends import DEADLINE_S, pair_on, raw, received


def watched(bus: Bus) -> bool:
    return bus.watched


async def test_a_watcher_sees_each_message_but_not_its_contents(bus: Bus) -> None:
    async with pair_on(bus) as pair:
        with raw(zmq.SUB) as watcher:
            watcher.connect(bus.facts_endpoint)
            watcher.subscribe(b"passed")
            watcher.subscribe(b"fact")
            # A Head answers the second subscription, so the first one is in force.
            assert (await received(watcher))[0] == b"fact"
            watcher.unsubscribe(b"fact")

            await pair.peer.command(Load("a secret"), DEADLINE_S)
            seen = [
                msgpack.unpackb(data) for topic, data in [await received(watcher), await received(watcher)]
            ]
            assert b"secret" not in msgpack.packb(seen)
    assert [(one["type"], one["peer"], one["outgoing"], one["kind"]) for one in seen] == [
        ("Passed", "engine 1", True, "Load"),
        ("Passed", "engine 1", False, "Reply"),
    ]
    assert all(one["size_bytes"] > 10 for one in seen)


async def test_what_passes_is_told_only_while_somebody_wants_to_know(bus: Bus) -> None:
    async with pair_on(bus) as pair:
        assert not watched(bus)
        with raw(zmq.XSUB) as watcher:
            watcher.connect(bus.facts_endpoint)
            watcher.send(b"\x01passed")
            watcher.send(b"\x01fact")
            assert (await received(watcher))[0] == b"fact"
            assert watched(bus)
            watcher.send(b"\x00passed")
            watcher.send(b"\x00fact")
            watcher.send(b"\x01fact")
            await pair.works()
            while watched(bus):
                await pair.works()


async def test_who_subscribes_to_all_watches_too_and_a_leaver_watches_no_more(bus: Bus) -> None:
    async with pair_on(bus) as pair:
        with raw(zmq.SUB) as watcher:
            watcher.connect(bus.facts_endpoint)
            watcher.subscribe(b"")
            await received(watcher)
            assert watched(bus)
        while watched(bus):
            assert pair.dealer.notify(Beat(1))
            await pair.works()
