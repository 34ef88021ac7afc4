"""What a rank that is not the first hears besides plans."""

import gc
from collections.abc import Iterator
from queue import SimpleQueue
from typing import cast

import mlx.core as mx
import pytest

from bus.messages.engine import Budget
from engine.border import Network
from engine.gauges import Gauges
from engine.ranks.follower import Follower
from engine.ranks.hop import Inlet, Interrupted, Parcel
from engine.ranks.rank import Equipment, Rank, Way
from engine.sharding.stage import Stage
from engine.work import End, Work
from tests.engine.conftest import Models


@pytest.fixture(autouse=True)
def files_are_closed() -> Iterator[None]:
    yield
    gc.collect()


class Silent:
    """No parcel comes: something new for the rank does."""

    def poll(self) -> Parcel | None:
        return None

    def wait(self) -> None:
        raise Interrupted


def test_every_rank_keeps_no_more_freed_memory_than_its_node_says(models: Models) -> None:
    rank = Rank(Stage(Network(models("llama")), 0, 1), 1, Way(), Equipment())
    inbox: SimpleQueue[Work] = SimpleQueue()
    inbox.put(Budget(kv_bytes=1 << 20, cache_bytes=12_345_678))
    inbox.put(End())
    before = mx.set_cache_limit(1 << 26)
    try:
        Follower(rank, cast(Inlet, Silent()), inbox, Gauges(), 0).run()
        assert mx.set_cache_limit(1 << 26) == 12_345_678
    finally:
        mx.set_cache_limit(before)
