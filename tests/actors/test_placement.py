"""A Placement says in the log what it declares, and why something that is wanted runs nowhere."""

import asyncio
import logging
import threading
from pathlib import Path

import pytest

from actors.kernel.directory import Directory
from actors.placement import Placement
from bus.bus import Bus
from bus.messages.base import ModelId
from bus.messages.generation import RefusalCode
from bus.messages.placement import NotServed, Want, Wish
from tests.actors.planner_examples import node
from tests.actors.probe import DEADLINE_S

STUDY = node("study", 8)


async def test_what_is_wanted_and_runs_nowhere_is_in_the_log_and_told_to_who_asks(
    bound_loop: asyncio.AbstractEventLoop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bus, directory, opened = await Bus.open(STUDY.id), Directory(), threading.Event()
    opened.set()
    bus.publish(f"node/{STUDY.id}", STUDY)
    changes = bus.view.changes()
    caplog.set_level(logging.INFO)
    wish = Wish(ModelId("nowhere"))
    placement = Placement.start(STUDY.id, bus, directory, (wish,), tmp_path, 1.0, opened=opened)
    async with asyncio.timeout(DEADLINE_S):
        while not any(key.startswith("instance/") for key in bus.view.facts()):
            await anext(aiter(changes))
    told = [record for record in caplog.records if record.name == "actors.placement"]
    waits = next(record for record in told if record.getMessage().startswith("nowhere: waits for a place"))
    assert waits.levelno == logging.WARNING
    answer = await placement.request(Want(ModelId("nowhere")), NotServed)
    assert answer.refusal.code is RefusalCode.DOES_NOT_FIT
    assert answer.refusal.message.startswith("model 'nowhere': waits for a place: model: no node has a copy")
    await placement.stop(block=False)
    await bus.close()
