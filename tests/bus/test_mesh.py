"""Many nodes are one cluster: they find each other, and share their facts; who can't is told why."""

import asyncio
import logging
import random
from dataclasses import replace

import msgspec
import pytest

from bus.counts import Count
from bus.mesh import AT_ONCE
from bus.messages.base import NodeId
from bus.messages.facts import Fact
from bus.messages.peers import Greeting
from bus.port import Frames
from bus.reader import FactReader
from bus.session import Session
from tests.bus.ends import DEADLINE_S
from tests.bus.examples import MODEL, NODE, request
from tests.bus.nodes import ASKED, LIVELY, Watch, holds, know_each_other, mesh_of, nodes, until


async def test_three_nodes_that_know_one_address_each_all_know_each_other() -> None:
    async with nodes() as them:
        one = await them.open(1)
        two = await them.open(2, one)
        three = await them.open(3, two)
        await know_each_other(one, two, three)
        member = mesh_of(three).members[NodeId("n-1")]
        assert (member.name, member.version, member.address) == ("node 1", "0.1", mesh_of(one).address)


async def test_many_that_come_together_and_know_one_address_know_each_other_without_asking_around() -> None:
    patient = replace(LIVELY, silence_s=3600.0, gossip_s=3600.0, dial_s=10.0)
    async with nodes() as them:
        one = await them.open(1, limits=patient)
        opening = (them.open(number, one, limits=patient) for number in range(2, 13))
        others = await asyncio.gather(*opening)
        await know_each_other(one, *others)


async def test_who_is_not_there_holds_up_nobody_for_long() -> None:
    async with nodes() as them:
        one, two = await them.open(1), await them.open(2)
        for port in range(1, 3 * AT_ONCE):
            mesh_of(two).add(f"127.0.0.1:{port}")
        mesh_of(two).add(mesh_of(one).address)
        await know_each_other(one, two)


async def test_everybody_holds_the_facts_of_all_and_late_joiners_too() -> None:
    async with nodes() as them:
        facts: dict[str, Fact] = {}
        one = await them.open(1)
        for number in range(500):
            facts[f"request/{number}"] = request(number)
            one.publish(f"request/{number}", request(number))
        two = await them.open(2, one)
        two.publish("model/n-2/m", MODEL)
        facts["model/n-2/m"] = MODEL
        three = await them.open(3, one)
        await know_each_other(one, two, three)
        for bus in (one, two, three):
            await holds(bus, facts)
        assert three.view.owner("model/n-2/m") == "n-2"
        two.withdraw("model/n-2/m")
        del facts["model/n-2/m"]
        for bus in (one, two, three):
            await holds(bus, facts)


async def test_who_closes_is_missed_at_once_with_its_facts() -> None:
    async with nodes() as them:
        one, two = await them.open(1), await them.open(2)
        mesh_of(one).add(mesh_of(two).address)
        await know_each_other(one, two)
        watch = Watch(mesh_of(one))
        two.publish("model/n-2/m", MODEL)
        one.publish("node/n-1", NODE)
        await holds(one, {"model/n-2/m": MODEL, "node/n-1": NODE})
        await two.close()
        await holds(one, {"node/n-1": NODE})
        assert watch.happened == [("left", "n-2")]
        assert watch.reasons == ["its process ended"]
        assert one.counts[Count.LOST_MEMBERS] == 1


async def test_who_loses_what_is_published_ends_up_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    source, hear, lost = random.Random(1), FactReader.hear, 0

    def lossy(reader: FactReader, frames: Frames) -> None:
        nonlocal lost
        if source.random() < 0.4:
            lost += 1
        else:
            hear(reader, frames)

    monkeypatch.setattr(FactReader, "hear", lossy)
    async with nodes() as them:
        one = await them.open(1)
        two = await them.open(2, one)
        await know_each_other(one, two)
        facts: dict[str, Fact] = {}
        for number in range(1_000):
            facts[f"request/{number % 97}"] = request(number)
            two.publish(f"request/{number % 97}", request(number))
            if number % 50 == 0:
                await asyncio.sleep(0)
        await holds(one, facts)
        assert lost > 0


async def test_a_member_that_leaves_one_greeting_unanswered_stays_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As one seems to do to a node that stood still itself while it asked around."""
    greet, tries = Session.greet, 0

    async def lost_once(session: Session) -> Greeting:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise TimeoutError
        return await greet(session)

    async with nodes() as them:
        one = await them.open(1)
        two = await them.open(2, one)
        await know_each_other(one, two)
        watches = Watch(mesh_of(one)), Watch(mesh_of(two))
        monkeypatch.setattr(Session, "greet", lost_once)
        await until(lambda: tries > 3)
        assert [watch.happened for watch in watches] == [[], []]


# -- addresses -------------------------------------------------------------------------------------


async def test_a_node_at_two_addresses_is_one_member_and_a_node_is_none_of_its_own() -> None:
    async with nodes() as them:
        one = await them.open(1)
        address = mesh_of(one).address
        two = await them.open(2, address, address, address.replace("127.0.0.1", "localhost"))
        mesh_of(one).add(address)
        watch = Watch(mesh_of(two))
        await mesh_of(two).settled(DEADLINE_S)
        await know_each_other(one, two)
        assert watch.happened == [("joined", "n-1")]


async def test_settling_waits_for_the_nodes_that_were_named_but_not_for_ever() -> None:
    async with nodes() as them:
        one = await them.open(1)
        await mesh_of(one).settled(DEADLINE_S)
        two = await them.open(2, one)
        await mesh_of(two).settled(DEADLINE_S)
        assert set(mesh_of(two).members) == {"n-1"}
        three = await them.open(3, "127.0.0.1:9")
        await mesh_of(three).settled(0.05)
        assert mesh_of(three).members == {}


async def test_what_is_no_address_is_said_at_once() -> None:
    async with nodes() as them:
        with pytest.raises(ValueError, match="'attic' is no address of a node: HOST:PORT, like"):
            await them.open(1, "attic")


async def test_a_name_that_nobody_knows_is_said(caplog: pytest.LogCaptureFixture) -> None:
    async with nodes() as them:
        await them.open(1, "nowhere.invalid:1")
        await until(lambda: "the name nowhere.invalid is not known here" in caplog.text)


# -- who can't be a member -------------------------------------------------------------------------


async def test_another_protocol_is_said_plainly_on_both_sides(caplog: pytest.LogCaptureFixture) -> None:
    async with nodes() as them:
        one, two = await them.open(1), await them.open(2)
        home = mesh_of(two)._home
        mesh_of(two)._home = replace(home, greeting=msgspec.structs.replace(home.greeting, protocol=3))
        with caplog.at_level(logging.INFO):
            mesh_of(two).add(mesh_of(one).address)
            said = "node node 2 speaks protocol 3, node node 1 2: update exo_actors on node 1"
            await until(lambda: f"A node at 127.0.0.1 was refused: {said}" in caplog.text)
            await until(lambda: f"{mesh_of(one).address} is not reached: {said}" in caplog.text)
        assert mesh_of(one).members == mesh_of(two).members == {}
        assert one.counts[Count.REFUSED_GREETINGS] > 0


async def test_two_nodes_with_one_id_are_told_so(caplog: pytest.LogCaptureFixture) -> None:
    async with nodes() as them:
        one = await them.open(1)
        await them.open(1, one)
        await until(lambda: "give each node a data directory of its own" in caplog.text)
        assert mesh_of(one).members == {}


async def test_what_is_said_before_a_greeting_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def rude(session: Session) -> Greeting:
        session.dealer.notify(ASKED)
        answer: asyncio.Future[Greeting] = asyncio.get_running_loop().create_future()
        return await answer

    async with nodes() as them:
        one = await them.open(1)
        monkeypatch.setattr(Session, "greet", rude)
        await them.open(2, one)
        await until(lambda: one.counts[Count.EARLY] > 0)
        assert mesh_of(one).members == {}
