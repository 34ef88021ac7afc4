"""An engine that dies, hangs or can't load is started again or fails with a reason, never in silence."""

import asyncio
import shutil
from pathlib import Path

import pytest

from actors import names
from actors.running.watchdog import Deadlines
from bus.messages.engine import Phase
from bus.messages.facts import InstanceFact, RequestFact
from bus.messages.generation import RefusalCode
from bus.messages.request import Completed
from tests.node.conftest import TINY
from tests.node.nodes import (
    answer,
    decoding,
    engines,
    events,
    failure,
    gone,
    idle,
    order,
    ready,
    running,
    settings,
    until,
)


async def test_an_engine_that_is_killed_is_started_again(tmp_path: Path, models_dir: Path) -> None:
    async with running(settings(tmp_path, models_dir, TINY)) as node:
        await ready(node, TINY)
        before = await answer(node, order("before", TINY))
        whole = await answer(node, order("whole", TINY, tokens=500))
        stream = asyncio.create_task(answer(node, order("stream", TINY, tokens=500)))
        await decoding(node, "stream")
        (engine,) = engines()
        engine.kill()
        assert await stream == whole
        # It is taken at once, and waits for the new engine.
        assert await answer(node, order("after", TINY)) == before
        assert (await ready(node, TINY)).restarts == 1
        assert len(engines()) == 1


@pytest.mark.usefixtures("long")
async def test_many_answers_of_one_request_survive_an_engine_that_is_lost_before_the_first_token(
    tmp_path: Path, models_dir: Path
) -> None:
    async with running(settings(tmp_path, models_dir, TINY)) as node:
        await ready(node, TINY)
        (engine,) = engines()
        engine.suspend()
        asked = asyncio.create_task(events(node, order("many", TINY, tokens=3, n=8)))
        await until(node.bus.view, RequestFact, lambda fact: fact.id == "many" and fact.instance is not None)
        engine.kill()
        completed = (await asked)[-1]
        assert isinstance(completed, Completed), completed
        assert completed.usage.completion_tokens == 24


async def test_an_engine_that_hangs_is_killed_and_started_again(tmp_path: Path, models_dir: Path) -> None:
    async with running(settings(tmp_path, models_dir, TINY), Deadlines(beat_s=2.0)) as node:
        await ready(node, TINY)
        (engine,) = engines()
        engine.suspend()
        waiting = await until(node.bus.view, InstanceFact, lambda fact: fact.phase is Phase.WAITING)
        assert "no sign of life" in waiting.reason
        assert len(await answer(node, order("after", TINY))) > 0


async def test_a_model_that_can_not_be_loaded_fails_with_a_reason_until_its_folder_changes(
    tmp_path: Path, models_dir: Path
) -> None:
    broken = tmp_path / "models" / "broken"
    shutil.copytree(models_dir / TINY, broken)
    config = broken / "config.json"
    right = config.read_text()
    # Which weights there should be, only mlx-lm knows.
    config.write_text(right.replace('"intermediate_size": 128', '"intermediate_size": 256'))
    assert config.read_text() != right
    async with running(settings(tmp_path / "data", tmp_path / "models", "broken")) as node:
        failed = await until(node.bus.view, InstanceFact, lambda fact: fact.phase is Phase.FAILED)
        assert failed.restarts == 0, "a permanent fault is not tried again"
        refused = await failure(node, order("a", "broken"))
        assert refused.refusal.code is RefusalCode.ENGINE_FAILED
        assert failed.reason in refused.refusal.message
        await gone(engines())

        config.write_text(right)
        assert len(await answer(node, order("b", "broken"))) > 0


async def test_a_placement_that_is_restarted_unloads_nothing(tmp_path: Path, models_dir: Path) -> None:
    async with running(settings(tmp_path, models_dir, TINY)) as node:
        instance = await ready(node, TINY)
        (engine,) = engines()
        placement = node.directory.get(names.PLACEMENT)
        placement.kill("a test wants to see it come back")
        await placement.ended
        assert len(await answer(node, order("a", TINY))) > 0
        assert (await idle(node, TINY)).id == instance.id
        assert engines() == [engine]


async def test_a_runner_that_fails_takes_its_engine_along_and_comes_back(
    tmp_path: Path, models_dir: Path
) -> None:
    async with running(settings(tmp_path, models_dir, TINY)) as node:
        instance = await ready(node, TINY)
        (engine,) = engines()
        node.directory.get(names.rank(instance.id, instance.epoch)).kill("a test wants to see it come back")
        assert len(await answer(node, order("a", TINY))) > 0
        assert engine not in engines()
        assert len(engines()) == 1
