"""A socket on the loop: no wake-up is lost however sends and arrivals mix, and nobody is kept waiting."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import zmq

from bus.port import BATCH, Frames, Port, Sent
from tests.bus.ends import DEADLINE_S


@contextmanager
def two_ends() -> Iterator[tuple[zmq.Socket[bytes], zmq.Socket[bytes]]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    one, other = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
    for socket in (one, other):
        socket.linger = 0
        socket.set_hwm(0)
    other.connect(f"tcp://127.0.0.1:{one.bind_to_random_port('tcp://127.0.0.1')}")
    yield one, other
    one.close()
    other.close()
    context.term()


async def test_no_wake_up_is_lost_while_both_ends_send() -> None:
    """Each end answers each message at once; one lost edge of the file descriptor would stop it for ever."""
    rounds, balls = 2_000, 8
    with two_ends() as (one, other):
        done = asyncio.Event()
        caught = 0

        def catch(frames: Frames) -> None:
            nonlocal caught
            caught += 1
            if caught < rounds * balls:
                near.send([frames[0].bytes])
            else:
                done.set()

        def throw_back(frames: Frames) -> None:
            far.send([frames[0].bytes])

        near, far = Port(one, catch), Port(other, throw_back)
        for _ in range(balls):
            assert far.send([b"ball"]) is Sent.QUEUED
        await asyncio.wait_for(done.wait(), DEADLINE_S)
        near.close()
        far.close()


async def test_a_flood_leaves_turns_for_others() -> None:
    flood = 10 * BATCH
    with two_ends() as (one, other):
        for _ in range(flood):
            other.send(b"x")
        heard_in: Counter[int] = Counter()
        turn = 0

        def hear(frames: Frames) -> None:
            heard_in[turn] += 1

        port = Port(one, hear)
        async with asyncio.timeout(DEADLINE_S):
            while heard_in.total() < flood:
                turn += 1
                await asyncio.sleep(0)
        # One batch because the descriptor is readable, and one because the last batch was full.
        assert max(heard_in.values()) <= 2 * BATCH
        port.close()


async def test_a_callback_that_fails_does_not_stop_the_port(caplog: pytest.LogCaptureFixture) -> None:
    with two_ends() as (one, other):
        heard: list[bytes] = []
        done = asyncio.Event()

        def hear(frames: Frames) -> None:
            heard.append(frames[0].bytes)
            if len(heard) == 3:
                done.set()
            raise RuntimeError("broken")

        port = Port(one, hear)
        for data in (b"1", b"2", b"3"):
            other.send(data)
        await asyncio.wait_for(done.wait(), DEADLINE_S)
        port.close()
    assert heard == [b"1", b"2", b"3"]
    assert caplog.text.count("A message could not be handled") == 3


async def test_a_port_may_be_closed_by_its_own_callback() -> None:
    with two_ends() as (one, other):
        closed = asyncio.Event()

        def hear(frames: Frames) -> None:
            port.close()
            closed.set()

        port = Port(one, hear)
        other.send(b"1")
        other.send(b"2")
        await asyncio.wait_for(closed.wait(), DEADLINE_S)
        assert port.closed
        port.close()
