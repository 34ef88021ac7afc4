"""Many nodes are one cluster: they find each other through one, share their facts, and miss who is lost."""

from bus.counts import Count
from bus.messages.base import NodeId
from bus.messages.facts import Fact
from tests.bus.examples import MODEL, NODE, request
from tests.bus.nodes import Watch, holds, know_each_other, mesh_of, nodes


async def test_three_nodes_that_know_one_address_each_all_know_each_other() -> None:
    async with nodes() as them:
        one = await them.open(1)
        two = await them.open(2, one)
        three = await them.open(3, two)
        await know_each_other(one, two, three)
        member = mesh_of(three).members[NodeId("n-1")]
        assert (member.name, member.version, member.address) == ("node 1", "0.1", mesh_of(one).address)


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
