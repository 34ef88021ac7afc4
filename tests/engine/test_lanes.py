"""Plans that two ranks carry out one after the other, in one process: every way in and out of a lane."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import msgspec
import numpy
import pytest

from engine.border import Network
from engine.gauges import Gauges
from engine.ranks.hop import Parcel
from engine.ranks.rank import Equipment, Rank, Way
from engine.sharding.stage import Stage
from engine.steps.entry import Entry
from engine.steps.plan import Insertion, Plan, Result
from models.pooling import Pooling, PoolingMode
from scripts.make_model import make_model
from tests.engine.reference import greedy_of
from tests.engine.staged import staged

PROMPT = [(7 * index + index * index // 3) % 500 + 20 for index in range(90)]
OTHER = PROMPT[40:60]
TOKENS = 8


@pytest.fixture(autouse=True)
def files_are_closed() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("lanes")
    names = ("llama", "gpt_oss", "qwen3_next")
    return {name: make_model(name, root / name, layers=4) for name in names}


class Wire:
    """Hops without sockets: what one rank sends waits here for the other."""

    def __init__(self) -> None:
        self.parcels: deque[Parcel] = deque()

    def send(self, parcel: Parcel) -> None:
        if parcel.hidden is not None:
            mx.eval(parcel.hidden)
        self.parcels.append(parcel)


class Pair:
    """Both stages of a model."""

    def __init__(self, folder: Path) -> None:
        self.wire = Wire()
        self.results: list[Result] = []
        self.first = Rank(Stage(Network(folder), 0, 2), 2, Way(self.wire), Equipment())
        self.second = Rank(Stage(Network(folder), 2, 4), 2, Way(tell=self.results.append), Equipment())
        self.made: dict[int, list[int]] = {}

    def apply(self, plan: Plan) -> None:
        self.first.apply(plan, msgspec.msgpack.encode(plan), None, self.wire.parcels.popleft)
        while self.wire.parcels:
            parcel = self.wire.parcels.popleft()
            told = msgspec.msgpack.decode(parcel.header, type=Plan)
            self.second.apply(told, parcel.header, parcel.hidden, self.wire.parcels.popleft)
        for result in self.results:
            for uid, token in result.tokens:
                self.made.setdefault(uid, []).append(token)
        self.results.clear()

    def decode(self, lane: int, *uids: int, slice_tokens: int = 0) -> None:
        tokens = tuple(self.made[uid][-1] for uid in uids)
        self.apply(Plan(lane, 0, tokens=tokens, slice_tokens=slice_tokens))


def alone(folder: Path, prompt: list[int]) -> list[int]:
    return greedy_of(folder, prompt, TOKENS)


@pytest.mark.parametrize("architecture", ["llama", "gpt_oss", "qwen3_next"])
def test_a_prefill_that_gives_way_goes_on_at_every_rank_even_in_another_lane(
    folders: dict[str, Path], architecture: str
) -> None:
    folder = folders[architecture]
    pair = Pair(folder)
    pair.apply(Plan(0, 1, insert=(Insertion(1, Entry(PROMPT)),), slice_tokens=25))
    pair.apply(Plan(0, 2, slice_tokens=25))
    pair.apply(Plan(0, 3, aside=(1,), insert=(Insertion(2, Entry(OTHER)),), slice_tokens=64))
    pair.apply(Plan(0, 4, join=(2,)))
    # A step that decodes and slices sends its hidden states twice.
    pair.apply(
        Plan(0, 5, insert=(Insertion(3, Entry(PROMPT[:30])),), slice_tokens=16, tokens=(pair.made[2][-1],))
    )
    pair.decode(0, 2, slice_tokens=16)
    pair.apply(Plan(1, 6, insert=(Insertion(1),), slice_tokens=64))
    pair.apply(Plan(1, 7, join=(1,)))
    pair.apply(Plan(0, 8, join=(3,), tokens=(pair.made[2][-1],)))
    while len(pair.made[3]) < TOKENS:
        pair.decode(1, 1)
        pair.decode(0, 2, 3)
    for uid, prompt in ((1, PROMPT), (2, OTHER), (3, PROMPT[:30])):
        assert pair.made[uid][:TOKENS] == alone(folder, prompt)


@pytest.mark.parametrize("architecture", ["gpt_oss", "qwen3_next"])
def test_a_slice_may_be_of_one_token_beside_rows_that_need_none(
    folders: dict[str, Path], architecture: str
) -> None:
    folder = folders[architecture]
    pair = Pair(folder)
    scored = Entry(PROMPT[:31], answers=False)
    pair.apply(Plan(0, 1, insert=(Insertion(1, scored),), slice_tokens=64))
    pair.apply(Plan(0, 2, insert=(Insertion(2, Entry(OTHER)),), slice_tokens=1))
    pair.apply(Plan(0, 3, slice_tokens=6))
    pair.apply(Plan(0, 4, slice_tokens=1))
    pair.apply(Plan(0, 5, remove=(1,), slice_tokens=64))
    pair.apply(Plan(0, 6, join=(2,)))
    while len(pair.made[2]) < TOKENS:
        pair.decode(0, 2)
    assert pair.made[2] == alone(folder, OTHER)


def test_after_a_slice_of_one_token_a_window_is_seen_whole(folders: dict[str, Path]) -> None:
    pair = Pair(folders["gpt_oss"])
    pair.apply(Plan(0, 1, insert=(Insertion(1, Entry(PROMPT)),), slice_tokens=128))
    pair.apply(Plan(0, 2, insert=(Insertion(2, Entry(OTHER)),), join=(1,), slice_tokens=1))
    pair.apply(Plan(0, 3, remove=(1,), slice_tokens=64))
    pair.apply(Plan(0, 4, join=(2,)))
    while len(pair.made[2]) < TOKENS:
        pair.decode(0, 2)
    assert pair.made[2] == alone(folders["gpt_oss"], OTHER)


@pytest.mark.parametrize("architecture", ["llama", "gpt_oss"])
def test_who_leaves_while_guesses_are_checked_takes_nothing_from_the_others(
    folders: dict[str, Path], architecture: str
) -> None:
    prompts = (PROMPT[:30], OTHER, PROMPT[:50])
    expected = [alone(folders[architecture], prompt) for prompt in prompts]
    conductor, _ = staged(folders[architecture], 2, 4, Gauges(), Equipment())
    made: dict[int, list[int]] = {}

    def finish() -> None:
        done = False
        while not done:
            for stepped in conductor.wait():
                done = done or stepped.done
                for chosen in stepped.chosen:
                    made.setdefault(chosen.uid, []).append(chosen.token)

    first, *others = uids = [conductor.insert(0, Entry(prompt), None) for prompt in prompts]
    conductor.begin(0, 64, [], [])
    finish()
    conductor.begin(0, 0, [], uids)
    finish()
    waits = conductor.insert(1, Entry(PROMPT), None)
    conductor.begin(1, 16, [], [])
    finish()
    kept = conductor.put_aside(1, waits, 16)
    conductor.begin(0, 0, uids, [], guesses=((21, 21), tuple(expected[1][1:3]), (expected[2][1], 21)))
    conductor.remove(0, [first])
    conductor.drop(kept)
    finish()
    while any(len(made[uid]) < TOKENS for uid in others):
        conductor.begin(0, 0, others, [])
        finish()
    assert [made[uid][:TOKENS] for uid in others] == expected[1:]


def test_a_prompt_that_is_scored_beside_one_that_is_embedded_gets_its_own_scores(
    folders: dict[str, Path],
) -> None:
    scored = Insertion(1, Entry(PROMPT[:30], logprobs=0, prompt_logprobs=True, answers=False))
    embedded = Insertion(2, Entry([*OTHER, 0], embed=True, answers=False))

    def told(*insertions: Insertion) -> Result:
        results: list[Result] = []
        equipment = Equipment(pooling=Pooling(PoolingMode.MEAN, normalize=True, dimensions=64))
        rank = Rank(Stage(Network(folders["llama"]), 0, 4), 1, Way(tell=results.append), equipment)
        plan = Plan(0, 1, insert=insertions, slice_tokens=64)
        rank.apply(plan, msgspec.msgpack.encode(plan), None, deque[Parcel]().popleft)
        return results[-1]

    both = told(scored, embedded)
    ((_, mine),), ((_, its),) = both.prompts, told(scored).prompts
    assert [each.chosen for each in mine] == pytest.approx([each.chosen for each in its], abs=1e-4)
    ((_, vector),), ((_, alone_),) = both.vectors, told(embedded).vectors
    assert numpy.frombuffer(vector, "<f4") == pytest.approx(numpy.frombuffer(alone_, "<f4"), abs=1e-5)


def test_what_leaves_is_gone_from_every_rank(folders: dict[str, Path]) -> None:
    pair = Pair(folders["llama"])
    entries = [Insertion(uid, Entry(PROMPT[: 20 * uid])) for uid in (1, 2, 3)]
    pair.apply(Plan(0, 1, insert=tuple(entries), slice_tokens=19))
    pair.apply(Plan(0, 2, join=(1,), slice_tokens=10))
    pair.apply(Plan(0, 3, aside=(3,)))
    assert pair.first.busy
    assert pair.second.kv_bytes == pair.first.kv_bytes > 0
    pair.apply(Plan(1, 4, remove=(3,)))
    pair.apply(Plan(0, 5, remove=(1, 2)))
    for rank in (pair.first, pair.second):
        assert not rank.busy
        assert rank.kv_bytes == 0
