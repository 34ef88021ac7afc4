"""A troop of children for a supervisor, on either seat."""

import asyncio

import pytest

from tests.actors.probe import Start
from tests.actors.troop import Troop


@pytest.fixture
async def troop(start: Start, bound_loop: asyncio.AbstractEventLoop) -> Troop:
    return Troop(start)
