"""Several nodes are one cluster: a model over all of them, any node's API, and no loss is a request's."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bus.messages.base import ModelId, NodeId
from bus.messages.envelope import Body
from bus.messages.facts import CoordinatorFact, DeclaredFact
from bus.messages.generation import Refusal, RefusalCode
from bus.messages.peers import Relayed
from bus.messages.placement import Sharding, Wish
from bus.messages.request import Completed
from tests.node.clusters import address, cluster, joined, member, node_id, place, served
from tests.node.conftest import TINY
from tests.node.nodes import answer, decoding, engines, events, failure, order, ready, running, text, until

PIPELINE = Wish(model=ModelId(TINY), sharding=Sharding.PIPELINE, stages=2)


async def test_a_model_over_two_nodes_answers_on_every_node_as_it_does_on_one(
    tmp_path: Path, models_dir: Path
) -> None:
    async with cluster(3, tmp_path, models_dir, "--model", TINY) as nodes:
        await ready(nodes[2], TINY)
        alone = await answer(nodes[0], order("alone", TINY))
        two = await place(nodes[1], PIPELINE)
        assert len(two.stages) == 2
        await served(nodes[2], two.id)
        texts = await asyncio.gather(
            *(answer(node, order(f"on-{index}", TINY)) for index, node in enumerate(nodes))
        )
        assert set(texts) == {alone}


async def test_an_engine_that_is_killed_in_the_middle_costs_a_pause_and_no_token(
    tmp_path: Path, models_dir: Path
) -> None:
    async with cluster(2, tmp_path, models_dir, "--no-model") as nodes:
        instance = await place(nodes[0], PIPELINE)
        await served(nodes[1], instance.id)
        whole = await answer(nodes[0], order("whole", TINY, tokens=200))
        stream = asyncio.create_task(events(nodes[1], order("stream", TINY, tokens=200)))
        await decoding(nodes[1], "stream")
        engines()[0].kill()
        seen = await stream
        assert isinstance(seen[-1], Completed), seen[-1]
        assert text(seen) == whole
        assert (await served(nodes[0], instance.id, epoch=2)).epoch == 2


async def test_withdrawn_means_gone_everywhere(tmp_path: Path, models_dir: Path) -> None:
    async with cluster(2, tmp_path, models_dir, "--no-model") as nodes:
        instance = await place(nodes[1], PIPELINE)
        await served(nodes[0], instance.id)
        assert await nodes[1].gateway.withdraw(instance.id) is None
        refused = await nodes[1].gateway.withdraw(instance.id)
        assert isinstance(refused, Refusal)
        assert node_id(nodes[0]) in instance.nodes


async def test_words_that_are_lost_between_two_nodes_cost_a_pause_and_no_token(
    tmp_path: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cluster(2, tmp_path, models_dir, "--no-model") as nodes:
        instance = await place(nodes[0], Wish(model=ModelId(TINY), nodes=(node_id(nodes[0]),)))
        await served(nodes[1], instance.id)
        whole = await answer(nodes[0], order("whole", TINY, tokens=100))
        mesh = nodes[0].bus.mesh
        assert mesh is not None
        lossy = Lossy(mesh.notify, every=20)
        monkeypatch.setattr(mesh, "notify", lossy)
        assert await answer(nodes[1], order("cut", TINY, tokens=100)) == whole
        assert lossy.lost > 0
        lossy.last_words = True
        assert await answer(nodes[1], order("tail", TINY, tokens=100)) == whole


@dataclass
class Lossy:
    """A way to another node that loses one word in so many, or the one that ends an answer, once."""

    notify: Callable[[NodeId, Body], bool]
    every: int
    lost: int = 0
    seen: int = 0
    last_words: bool = False

    def __call__(self, node: NodeId, body: Body) -> bool:
        self.seen += 1
        ends = isinstance(body, Relayed) and any(delta.finish for delta in body.deltas)
        if self.last_words and ends:
            self.last_words = False
            return True
        if self.lost < 2 and self.seen % self.every == 0:
            self.lost += 1
            return True
        return self.notify(node, body)


async def test_a_node_that_leaves_has_what_it_runs_moved_first(tmp_path: Path, models_dir: Path) -> None:
    async with cluster(3, tmp_path, models_dir, "--no-model") as nodes:
        stays, leaves = nodes[0], nodes[2]
        wish = Wish(model=ModelId(TINY), nodes=(node_id(leaves), node_id(nodes[1])))
        instance = await place(stays, wish)
        await served(stays, instance.id)
        whole = await answer(stays, order("whole", TINY, tokens=500))
        stream = asyncio.create_task(answer(stays, order("stream", TINY, tokens=500)))
        await decoding(stays, "stream")
        await leaves.leave()
        await leaves.stop()
        assert await stream == whole
        moved = await served(stays, instance.id, epoch=2)
        assert node_id(leaves) not in moved.nodes


async def test_the_loss_of_the_coordinator_unloads_nothing(tmp_path: Path, models_dir: Path) -> None:
    async with cluster(3, tmp_path, models_dir, "--no-model") as nodes:
        wish = Wish(model=ModelId(TINY), nodes=(node_id(nodes[1]), node_id(nodes[2])))
        instance = await place(nodes[2], wish)
        await served(nodes[1], instance.id)
        stream = asyncio.create_task(answer(nodes[2], order("stream", TINY, tokens=300)))
        await decoding(nodes[2], "stream")
        await nodes[0].stop()
        successor = await until(
            nodes[2].bus.view, CoordinatorFact, lambda fact: fact.node == node_id(nodes[1])
        )
        assert successor.term.number == 2
        assert len(await stream) > 0
        assert (await served(nodes[2], instance.id)).epoch == 1
        await place(nodes[2], Wish(model=ModelId(TINY), nodes=(node_id(nodes[2]),)))


async def test_a_full_restart_brings_back_what_was_declared(tmp_path: Path, models_dir: Path) -> None:
    async with cluster(2, tmp_path, models_dir, "--no-model") as nodes:
        instance = await place(nodes[0], PIPELINE)
        await served(nodes[1], instance.id)
        before = await answer(nodes[0], order("before", TINY))
        await asyncio.gather(*(node.stop() for node in nodes))
    async with cluster(2, tmp_path, models_dir, "--no-model") as nodes:
        again = await served(nodes[1], instance.id)
        assert again.nodes == instance.nodes
        assert await answer(nodes[1], order("after", TINY)) == before


async def test_asking_for_a_model_places_it_once_unless_that_is_not_wanted(
    tmp_path: Path, models_dir: Path
) -> None:
    async with cluster(1, tmp_path, models_dir, "--no-model") as (first,):
        refuses = member("strict", tmp_path, models_dir, [address(first)], "--no-model", "--no-auto-place")
        async with running(refuses) as strict:
            await joined(first, 2)
            refused = await failure(strict, order("early", TINY))
            assert refused.refusal.code is RefusalCode.MODEL_NOT_FOUND
            assert "POST /v1/instances" in refused.refusal.message
            answers = [answer(first, order(f"at-once-{number}", TINY)) for number in range(4)]
            assert len(set(await asyncio.gather(*answers))) == 1
            assert await answer(strict, order("late", TINY)), "it is placed now"
            declared = [fact for fact in strict.bus.view.facts().values() if isinstance(fact, DeclaredFact)]
            assert len({fact.instance.id for fact in declared}) == 1
