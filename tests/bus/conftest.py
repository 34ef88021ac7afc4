"""A bus for each test, on the test's own loop."""

from collections.abc import AsyncIterator

import pytest

from bus.backoff import Backoff
from bus.bus import Bus
from bus.messages.base import NodeId
from bus.sockets import Limits

BRISK = Limits(beat_s=0.02, patience=Backoff(0.02, 0.1))
"""Repeats itself often, so that tests with losses are soon over."""


@pytest.fixture
async def bus() -> AsyncIterator[Bus]:
    opened = await Bus.open(NodeId("n-1"), limits=BRISK)
    yield opened
    await opened.close()
