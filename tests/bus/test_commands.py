"""Commands and notices: answered, refused, late, or told that there is nobody to answer."""

import asyncio
import socket
from contextlib import suppress

import msgpack
import pytest
import zmq

from bus.bus import Bus, new_identity
from bus.codec import encode
from bus.commands import Peer
from bus.counts import Count
from bus.dealer import Dealer
from bus.errors import CommandTimeout, QueueFull, Refused, TooLarge
from bus.messages.base import NodeId, SequenceId
from bus.messages.engine import Beat, Cancel, Hello, Load, Shutdown, Step
from bus.messages.envelope import Body, Command, Notice, Reply
from bus.messages.generation import Refusal, RefusalCode
from bus.sockets import Limits
from tests.bus.ends import DEADLINE_S, Pair, Remembers, expect, pair_on, raw, received
from tests.bus.examples import REFUSAL, SUBMIT


async def test_a_command_is_taken(bus: Bus) -> None:
    async with pair_on(bus) as pair:
        await pair.peer.command(SUBMIT, DEADLINE_S)
        assert pair.engine.heard == [SUBMIT]


async def test_a_command_is_refused_with_the_reason(bus: Bus) -> None:
    async with pair_on(bus) as pair:
        pair.engine.refusal = REFUSAL
        with pytest.raises(Refused) as caught:
            await pair.peer.command(SUBMIT, DEADLINE_S)
        assert caught.value.refusal == REFUSAL


async def test_many_commands_at_once_get_each_its_own_answer(bus: Bus) -> None:
    async with pair_on(bus) as pair:
        bodies = [Cancel((SequenceId(f"s-{number}"),)) for number in range(500)]
        await asyncio.gather(*(pair.peer.command(body, DEADLINE_S) for body in bodies))
        assert pair.engine.heard == bodies


async def test_the_engine_may_command_the_node(bus: Bus) -> None:
    async with pair_on(bus) as pair:
        await pair.dealer.command(Beat(1), DEADLINE_S)
        assert pair.node.heard[-1] == Beat(1)


async def test_who_takes_no_commands_says_so(bus: Bus) -> None:
    identity = new_identity()
    peer = bus.expect(identity, receive=lambda body: None, gone=lambda: None)
    dealer = Dealer.connect(bus.commands_endpoint, identity, lambda body: None)
    with pytest.raises(Refused, match="takes no commands"):
        await dealer.command(Beat(1), DEADLINE_S)
    peer.forget()
    dealer.close()


async def test_notices_arrive_in_the_order_of_sending(bus: Bus) -> None:
    async with pair_on(bus) as pair:
        for number in range(5_000):
            assert pair.dealer.notify(Step(number))
        await pair.node.until("Step", 5_000)
        assert pair.node.heard[1:] == [Step(number) for number in range(5_000)]


async def test_what_is_sent_before_the_node_is_there_waits_for_it() -> None:
    """A Dealer connects again and again: here to an endpoint that opens only later."""
    with socket.socket() as free:
        # Bound and not listening, it keeps the port from others; who asks for the same can bind it too.
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", 0))
        endpoint = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        dealer = Dealer.connect(endpoint, b"engine", lambda body: None)
        assert dealer.notify(Hello(1))
        with raw(zmq.ROUTER) as router:
            router.bind(endpoint)
            assert await received(router) == [b"engine", encode(Notice(Hello(1)))]
    dealer.close()


# -- deadlines -------------------------------------------------------------------------------------


async def test_a_command_that_is_not_answered_ends_at_its_deadline(bus: Bus) -> None:
    identity = new_identity()
    node = Remembers()
    peer = expect(bus, identity, node)
    with raw(zmq.DEALER, routing_id=identity) as silent:
        silent.connect(bus.commands_endpoint)
        silent.send(encode(Notice(Hello(1))))
        await node.until("Hello")
        with pytest.raises(CommandTimeout, match=r"engine 1 did not answer Load within 0\.01 s"):
            await peer.command(Load("p"), 0.01)

        asked = msgpack.unpackb((await received(silent))[0])
        assert (asked["type"], asked["timeout_s"]) == ("Command", 0.01)
        silent.send(encode(Reply(asked["number"])))
        silent.send(encode(Notice(Beat(1))))
        await node.until("Beat")
    assert bus.counts[Count.LATE] == 1


async def test_a_command_that_nobody_waits_for_any_more_leaves_nothing_behind(bus: Bus) -> None:
    async with pair_on(bus) as pair:
        waiting = asyncio.ensure_future(pair.peer.command(Load("p"), DEADLINE_S))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        await pair.works()
    assert bus.counts[Count.LATE] == 1


# -- too much --------------------------------------------------------------------------------------


async def insist(peer: Peer, body: Body) -> None:
    """Command it again and again: the kernel may take some more for it, until it is full too."""
    while True:
        with suppress(CommandTimeout):
            await peer.command(body, 0.01)


async def test_a_peer_that_does_not_read_is_told_from_one_that_is_gone() -> None:
    # It cannot answer heartbeats either, and would be gone before long.
    bus = await Bus.open(NodeId("n-1"), limits=Limits(commands=2, engine_silence_ms=3_600_000))
    node = Remembers()
    identity = new_identity()
    peer = expect(bus, identity, node)
    with raw(zmq.DEALER, routing_id=identity, rcvhwm=1) as stuck:
        stuck.connect(bus.commands_endpoint)
        stuck.send(encode(Notice(Hello(1))))
        await node.until("Hello")
        large = Load("x" * 1_000_000)
        while peer.notify(large):
            pass
        with pytest.raises(QueueFull, match="engine 1 does not keep up: Load not sent"):
            await insist(peer, large)
        assert peer.present
        assert bus.counts[Count.UNSENT] >= 2
        assert msgpack.unpackb((await received(stuck))[0])["type"] == "Notice"
    await bus.close()


async def test_a_dealer_without_a_node_refuses_at_its_limit() -> None:
    dealer = Dealer.connect("tcp://127.0.0.1:9", b"engine", lambda body: None, limits=Limits(commands=10))
    taken = 0
    while dealer.notify(Step(taken)):
        taken += 1
    assert taken == 10
    assert dealer.counts[Count.UNSENT] == 1
    dealer.close(linger_s=0)


async def test_what_is_no_endpoint_is_said_at_once() -> None:
    with pytest.raises(ValueError, match="'nowhere' is no endpoint of a bus, like tcp://"):
        Dealer.connect("nowhere", b"engine", lambda body: None)


async def test_a_message_over_the_limit_is_its_senders_fault(bus: Bus) -> None:
    async with pair_on(bus) as pair:
        large = Load("x" * 2**24)
        with pytest.raises(TooLarge):
            pair.peer.notify(large)
        with pytest.raises(TooLarge):
            await pair.peer.command(large, DEADLINE_S)
        with pytest.raises(TooLarge):
            pair.dealer.notify(large)
        await pair.works()


# -- faults of ours, and of other versions ---------------------------------------------------------


async def test_a_handler_that_fails_answers_so_and_the_rest_goes_on(
    bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    identity = new_identity()
    heard: list[Body] = []

    def fragile(body: Body) -> None:
        heard.append(body)
        raise RuntimeError("fragile")

    def gone() -> None:
        raise RuntimeError("fragile")

    peer = bus.expect(identity, receive=fragile, gone=gone, arrived=gone, answer=fragile, name="engine 1")
    node = Remembers()
    dealer = Dealer.connect(bus.commands_endpoint, identity, node.answer)
    dealer.notify(Hello(1))
    with pytest.raises(Refused, match="RuntimeError in its handler; see the log") as caught:
        await dealer.command(Beat(1), DEADLINE_S)
    assert caught.value.refusal.code is RefusalCode.ENGINE_FAILED
    await peer.command(Shutdown(), DEADLINE_S)
    dealer.close()
    peer.forget()
    assert heard == [Hello(1), Beat(1)]
    assert bus.counts[Count.HANDLER_ERRORS] == 3
    assert "engine 1: Hello could not be handled" in caplog.text


async def test_a_command_of_a_newer_version_is_refused_at_once(bus: Bus) -> None:
    identity = new_identity()
    expect(bus, identity, Remembers())
    with raw(zmq.DEALER, routing_id=identity) as newer:
        newer.connect(bus.commands_endpoint)
        body = {"type": "Migrate", "to": "n-2"}
        newer.send(msgpack.packb({"type": "Command", "number": 7, "timeout_s": 5.0, "body": body}))
        reply = msgpack.unpackb((await received(newer))[0])
    assert (reply["type"], reply["number"], reply["refusal"]["code"]) == ("Reply", 7, "invalid_value")
    assert "not understood" in reply["refusal"]["message"]
    assert bus.counts[Count.UNKNOWN_TYPE] == 1


async def test_commands_on_the_wire_are_plain_messagepack_maps(bus: Bus) -> None:
    async with pair_on(bus) as pair:
        await pair.works()
    command = Command(1, 2.0, Cancel((SequenceId("a"),)))
    assert msgpack.unpackb(encode(command)) == {
        "type": "Command",
        "number": 1,
        "timeout_s": 2.0,
        "body": {"type": "Cancel", "sequences": ["a"]},
    }
    refusal = Refusal(RefusalCode.INVALID, "no")
    assert msgpack.unpackb(encode(Reply(1, refusal))) == {
        "type": "Reply",
        "number": 1,
        "refusal": {"code": "invalid_value", "message": "no"},
    }


async def test_pairs_do_not_hear_each_other(bus: Bus) -> None:
    async with pair_on(bus) as one, pair_on(bus) as other:
        await one.peer.command(Load("one"), DEADLINE_S)
        await other.peer.command(Load("other"), DEADLINE_S)
        assert isinstance(one, Pair)
        assert one.engine.heard == [Load("one")]
        assert other.engine.heard == [Load("other")]
