"""Commands and notices from node to node: answered with something, refused, late, or nobody is there."""

import asyncio

import pytest

from bus.conversation import Answered
from bus.errors import CommandTimeout, PeerGone, Refused
from bus.messages.base import NodeId
from bus.messages.envelope import Body
from bus.messages.placement import Created
from tests.bus.ends import DEADLINE_S
from tests.bus.examples import PLACED, REFUSAL
from tests.bus.nodes import ASKED, know_each_other, mesh_of, nodes, until


async def test_commands_are_answered_with_what_there_is_to_say_or_refused_now_or_later() -> None:
    heard: list[tuple[NodeId, Body]] = []
    later = asyncio.Event()

    async def in_time() -> Answered:
        await later.wait()
        return Created((PLACED,))

    async with nodes() as them:
        one = await them.open(1)
        two = await them.open(2, one)
        await know_each_other(one, two)
        ask, told = mesh_of(one), mesh_of(two)
        with pytest.raises(Refused, match="still starting"):
            await ask.command(two.node, ASKED, DEADLINE_S)

        told.serve(lambda node, body: None, lambda node, body: heard.append((node, body)))
        assert await ask.command(two.node, ASKED, DEADLINE_S) is None
        assert ask.notify(two.node, ASKED)
        await until(lambda: heard == [(NodeId("n-1"), ASKED)])

        told.serve(lambda node, body: REFUSAL, lambda node, body: None)
        with pytest.raises(Refused, match="Full: try later"):
            await ask.command(two.node, ASKED, DEADLINE_S)

        told.serve(lambda node, body: in_time(), lambda node, body: None)
        waiting = asyncio.ensure_future(ask.command(two.node, ASKED, DEADLINE_S))
        with pytest.raises(CommandTimeout):
            await ask.command(two.node, ASKED, 0.05)
        later.set()
        assert await waiting == Created((PLACED,))


async def never() -> Answered:
    answer: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
    return await answer


async def test_who_is_no_member_is_gone_and_so_is_who_leaves_meanwhile() -> None:
    async with nodes() as them:
        one = await them.open(1)
        two = await them.open(2, one)
        await know_each_other(one, two)
        mesh_of(two).serve(lambda node, body: never(), lambda node, body: None)
        with pytest.raises(PeerGone, match="node n-9 is not in the cluster"):
            await mesh_of(one).command(NodeId("n-9"), ASKED, DEADLINE_S)
        assert not mesh_of(one).notify(NodeId("n-9"), ASKED)
        waiting = asyncio.ensure_future(mesh_of(one).command(two.node, ASKED, DEADLINE_S))
        await asyncio.sleep(0)
        await two.close()
        with pytest.raises(PeerGone, match="its process ended"):
            await waiting


async def test_an_answer_that_fails_later_is_a_refusal() -> None:
    async def broken() -> Answered:
        await asyncio.sleep(0)
        raise RuntimeError("broken")

    async with nodes() as them:
        one = await them.open(1)
        two = await them.open(2, one)
        await know_each_other(one, two)
        mesh_of(two).serve(lambda node, body: broken(), lambda node, body: None)
        with pytest.raises(Refused, match="RuntimeError in its handler; see the log"):
            await mesh_of(one).command(two.node, ASKED, DEADLINE_S)


async def test_traffic_is_counted_for_each_member() -> None:
    async with nodes() as them:
        one = await them.open(1)
        two = await them.open(2, one)
        await know_each_other(one, two)
        mesh_of(two).serve(lambda node, body: None, lambda node, body: None)
        before = mesh_of(one).traffic()[two.node]
        await mesh_of(one).command(two.node, ASKED, DEADLINE_S)
        passed = mesh_of(one).traffic()[two.node] - before
        assert passed.bytes_out > 20
        assert passed.messages_in >= 1
