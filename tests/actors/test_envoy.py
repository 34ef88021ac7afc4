"""What an Envoy is told at once it passes on as one message, in which nobody waits who goes on."""

import asyncio

from actors.envoy import Envoy
from bus.messages.base import InstanceId, SequenceId
from bus.messages.engine import Prefilled, Queued
from bus.messages.generation import Delta
from bus.messages.peers import Relayed
from tests.actors.probe import soon

A, B, C = SequenceId("a"), SequenceId("b"), SequenceId("c")


async def test_of_places_in_line_the_latest_is_told_and_only_of_those_that_wait_still(
    bound_loop: asyncio.AbstractEventLoop,
) -> None:
    relayed: asyncio.Queue[Relayed] = asyncio.Queue()

    def notify(said: Relayed) -> bool:
        relayed.put_nowait(said)
        return True

    envoy = Envoy.start(InstanceId("i"), 1, notify)
    for message in (
        Queued(A, 2, "its turn"),
        Queued(B, 3, "its turn"),
        Queued(B, 2, "its turn"),
        Prefilled(A, 1, 2),
        Delta(C, tokens=1),
        Queued(C, 0, "memory"),
    ):
        envoy.tell(message)
    said = await soon(relayed.get())
    assert said.queued == (Queued(B, 2, "its turn"), Queued(C, 0, "memory"))
    assert (said.prefilled, said.deltas) == ((Prefilled(A, 1, 2),), (Delta(C, tokens=1),))
    await envoy.stop(block=False)
