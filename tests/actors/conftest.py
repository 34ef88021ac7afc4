"""A troop of children for a supervisor, on either seat; and time that passes only when a test says so."""

import asyncio

import pytest

from tests.actors.probe import Clock, Start
from tests.actors.troop import Troop


@pytest.fixture
async def troop(start: Start, bound_loop: asyncio.AbstractEventLoop) -> Troop:
    return Troop(start)


@pytest.fixture
async def clock(bound_loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The bound loop's, which stands still: no busy machine makes a timer of the loop fire early or late."""
    clock = Clock(bound_loop.time())
    monkeypatch.setattr(bound_loop, "time", clock)
    return clock
