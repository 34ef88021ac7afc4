"""A model is published as soon as it is seen, and again when it is known how it can be divided."""

import asyncio
import json
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from actors.downloader import EXAMINED, Downloader
from actors.examiner import Examiner
from actors.kernel.reference import Ref
from actors.messages import DownloaderMessage, FindModel
from bus.bus import Bus
from bus.messages.base import ModelId, NodeId
from bus.messages.facts import Fact, ModelFact
from models.store import StoredModel, built_in_folder, read_folder
from tests.actors.probe import soon

NODE = NodeId("n-1")
TINY = ModelId("tiny")

ANSWERS = """
import json
print(json.dumps({"pipeline_problem": "", "tensor_problem": "it is odd", "kv_quant_problem": ""}))
"""
HANGS = "import time; time.sleep(1000)"
FAILS = "raise SystemExit('out of luck')"
RAVES = "print('hm')"


def script(text: str) -> tuple[str, ...]:
    return sys.executable, "-c", text


def noting(seen: Path) -> tuple[str, ...]:
    """Answers, and writes down which folders it was given."""
    return script(f"import sys; print(sys.argv[1], file=open({str(seen)!r}, 'a'))\n{ANSWERS}")


@pytest.fixture
def model(tmp_path: Path) -> StoredModel:
    folder = tmp_path / "models" / TINY
    shutil.copytree(built_in_folder(), folder)
    return read_folder(TINY, folder)


def finished(examiner: Examiner) -> bool:
    """Poll until a verdict is there."""
    deadline = time.monotonic() + 20
    while not examiner.poll():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return True


# -- the examiner ----------------------------------------------------------------------------------------


def test_a_model_is_examined_once_and_the_verdict_outlives_the_process(
    model: StoredModel, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    examiner = Examiner(tmp_path / EXAMINED, noting(seen))
    examiner.want([model])
    assert examiner.verdict(model) is None
    assert finished(examiner)
    verdict = examiner.verdict(model)
    assert verdict is not None
    assert (verdict.pipeline_problem, verdict.tensor_problem) == ("", "it is odd")
    later = Examiner(tmp_path / EXAMINED, noting(seen))
    assert later.verdict(model) == verdict
    later.want([model])
    assert not later.busy
    assert seen.read_text().splitlines() == [str(model.folder)]


def test_a_model_that_has_changed_is_examined_anew(model: StoredModel, tmp_path: Path) -> None:
    examiner = Examiner(tmp_path / EXAMINED, script(ANSWERS))
    examiner.want([model])
    assert finished(examiner)
    os.utime(model.folder / "config.json", (1.0, 1.0))
    changed = read_folder(TINY, model.folder, model)
    assert changed.mark != model.mark
    assert examiner.verdict(changed) is None
    examiner.want([changed])
    assert finished(examiner)
    assert examiner.verdict(changed) is not None


@pytest.mark.parametrize(
    ("text", "limit_s", "reason"),
    [
        (FAILS, 60.0, "failed: out of luck"),
        (RAVES, 60.0, "no answer that can be read"),
        (HANGS, 0.1, "0.1 s"),
    ],
)
def test_an_examination_that_fails_is_the_reason_why_a_model_is_not_divided(
    model: StoredModel, tmp_path: Path, text: str, limit_s: float, reason: str
) -> None:
    examiner = Examiner(tmp_path / EXAMINED, script(text), limit_s)
    examiner.want([model])
    assert finished(examiner)
    verdict = examiner.verdict(model)
    assert verdict is not None
    assert reason in verdict.pipeline_problem
    assert reason in verdict.tensor_problem
    assert reason in verdict.kv_quant_problem
    assert Examiner(tmp_path / EXAMINED, script(text)).verdict(model) is None


def test_a_model_that_is_gone_is_not_examined_to_the_end(model: StoredModel, tmp_path: Path) -> None:
    examiner = Examiner(None, script(HANGS))
    examiner.want([model])
    examiner.poll()
    assert examiner.busy
    examiner.want([])
    assert not examiner.busy


def test_findings_that_cannot_be_read_are_found_again(model: StoredModel, tmp_path: Path) -> None:
    (tmp_path / EXAMINED).write_text("{")
    examiner = Examiner(tmp_path / EXAMINED, script(ANSWERS))
    examiner.want([model])
    assert finished(examiner)
    assert json.loads((tmp_path / EXAMINED).read_text())


# -- the actor -------------------------------------------------------------------------------------------


@asynccontextmanager
async def downloader(tmp_path: Path, text: str) -> AsyncIterator[tuple[Bus, Ref[DownloaderMessage]]]:
    bus = await Bus.open(NODE)
    ref = Downloader.start(NODE, bus, (tmp_path / "models",), (), tmp_path, script(text))
    try:
        yield bus, ref
    finally:
        ref.stop(block=False)
        await soon(ref.ended)
        await bus.close()


async def seen(bus: Bus, holds: Callable[[Fact | None], bool]) -> ModelFact:
    """The fact of the tiny model, once it is as it should be."""
    key = f"model/{NODE}/{TINY}"
    changes = bus.view.changes()
    async with asyncio.timeout(20):
        while True:
            fact = bus.view.facts().get(key)
            if isinstance(fact, ModelFact) and holds(fact):
                return fact
            await anext(changes)


def examined(fact: Fact | None) -> bool:
    return isinstance(fact, ModelFact) and fact.shape is not None and fact.shape.examined


async def test_a_model_is_told_of_at_once_and_again_when_it_is_examined(
    model: StoredModel, tmp_path: Path, bound_loop: asyncio.AbstractEventLoop
) -> None:
    async with downloader(tmp_path, ANSWERS) as (bus, _):
        first = await seen(bus, lambda fact: fact is not None)
        assert first.shape is not None
        assert sum(first.shape.layer_bytes) + first.shape.other_bytes < first.size_bytes
        assert first.folder_mark == model.mark
        last = await seen(bus, examined)
        assert last.shape is not None
        assert last.shape.tensor_problem == "it is odd"


async def test_a_model_is_found_while_another_is_examined_and_nothing_is_left_of_that(
    model: StoredModel, tmp_path: Path, bound_loop: asyncio.AbstractEventLoop
) -> None:
    async with downloader(tmp_path, HANGS) as (_, ref):
        found = await soon(ref.request(FindModel(TINY), StoredModel))
        assert found == model
