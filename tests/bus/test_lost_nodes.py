"""Nodes that are killed, stopped and started again: each is missed in time, and found again."""

import time
from dataclasses import replace
from signal import SIGCONT, SIGKILL, SIGSTOP

from bus.messages.base import NodeId
from bus.messages.facts import Fact
from tests.bus.examples import NODE, request
from tests.bus.nodes import ASKED, LIVELY, Watch, holds, mesh_of, node_process, nodes, until

NINE = NodeId("n-9")
FACTS: dict[str, Fact] = {"request/9": request(9)}
PATIENT = replace(LIVELY, silence_s=3600.0)


async def test_a_killed_process_is_missed_with_its_facts_however_long_it_may_be_silent() -> None:
    async with nodes() as them:
        one = await them.open(1, limits=PATIENT)
        one.publish("node/n-1", NODE)
        watch = Watch(mesh_of(one))
        async with node_process(9, one) as other:
            await holds(one, {"node/n-1": NODE, **FACTS})
            await until(lambda: NINE in mesh_of(one).members)
            other.process.send_signal(SIGKILL)
            await holds(one, {"node/n-1": NODE})
        assert watch.happened == [("joined", NINE), ("left", NINE)]
        assert watch.reasons == ["its process ended"]


async def test_a_stopped_process_is_missed_and_joins_again_when_it_goes_on() -> None:
    async with nodes() as them:
        one = await them.open(1)
        watch = Watch(mesh_of(one))
        async with node_process(9, one) as other:
            await until(lambda: NINE in mesh_of(one).members)
            other.process.send_signal(SIGSTOP)
            await until(lambda: NINE not in mesh_of(one).members)
            assert one.view.facts() == {}
            assert watch.reasons == ["nothing was heard of it for 1 s"]
            other.process.send_signal(SIGCONT)
            await until(lambda: NINE in mesh_of(one).members)
            await holds(one, FACTS)
            assert await mesh_of(one).command(NINE, ASKED, 5.0) == ASKED


async def test_a_node_that_is_started_again_replaces_its_earlier_life() -> None:
    async with nodes() as them:
        one = await them.open(1)
        watch = Watch(mesh_of(one))
        async with node_process(9, one) as other:
            await until(lambda: NINE in mesh_of(one).members)
            first = mesh_of(one).members[NINE]
        async with node_process(9, one, port=int(other.address.rpartition(":")[2])):
            await until(lambda: mesh_of(one).members.get(NINE, first) != first)
            await holds(one, FACTS)
        assert watch.happened[:3] == [("joined", NINE), ("left", NINE), ("joined", NINE)]


async def test_a_second_life_is_known_before_the_first_is_known_to_be_dead() -> None:
    async with nodes() as them:
        one = await them.open(1, limits=PATIENT)
        watch = Watch(mesh_of(one))
        async with node_process(9, one) as other:
            await until(lambda: NINE in mesh_of(one).members)
            other.process.send_signal(SIGSTOP)
            async with node_process(9, one):
                await until(lambda: len(watch.happened) >= 3)
        assert watch.happened[:3] == [("joined", NINE), ("left", NINE), ("joined", NINE)]
        assert watch.reasons[0] == "it was started anew"


async def test_who_stood_still_itself_gives_the_others_time() -> None:
    async with nodes() as them:
        one = await them.open(1)
        two = await them.open(2, one)
        await until(lambda: bool(mesh_of(one).members and mesh_of(two).members))
        watches = Watch(mesh_of(one)), Watch(mesh_of(two))
        _stand_still(1.5)
        heard = mesh_of(one).traffic()[two.node].messages_in
        await until(lambda: mesh_of(one).traffic()[two.node].messages_in > heard + 20)
        assert [watch.happened for watch in watches] == [[], []]


def _stand_still(how_long_s: float) -> None:
    """As in a laptop that sleeps: longer than the silence that is allowed."""
    time.sleep(how_long_s)
