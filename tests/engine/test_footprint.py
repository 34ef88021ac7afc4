"""What is reckoned of sequences is what mlx-lm's caches really take, and never less."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import mlx.core as mx
import pytest
from mlx_lm.models.cache import ArraysCache, CacheList, ChunkedKVCache, KVCache

from engine.border import Network
from engine.memory.caches import Cache, joined, merged
from engine.memory.footprint import ENDLESS, STEP, Footprint, Layer
from engine.memory.quantised import quantise
from scripts.make_model import make_model

SLICE = 64
ARCHITECTURES = ("llama", "gemma3", "gpt_oss", "qwen3_next", "deepseek_v3")


@pytest.fixture(autouse=True)
def files_are_closed() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("footprint")
    return {name: make_model(name, root / name, layers=4, hidden=128) for name in ARCHITECTURES}


class Traced:
    """A model whose caches grow in shape only: nothing is computed."""

    def __init__(self, folder: Path, bits: int | None = None) -> None:
        self.network = Network(folder)
        self.bits = bits

    def fresh(self) -> list[Cache]:
        caches = self.network.make_caches()
        return caches if self.bits is None else quantise(caches, self.bits)

    def footprint(self) -> Footprint:
        caches = self.fresh()
        self.network.forward(mx.array([[1]]), caches)
        return Footprint.of(caches, SLICE)

    def feed(self, caches: list[Cache], rows: int, tokens: int) -> None:
        while tokens > 0:
            self.network.forward(mx.zeros((rows, min(tokens, SLICE)), mx.int32), caches)
            tokens -= SLICE

    def grown(self, tokens: int) -> list[Cache]:
        """A sequence of so many tokens, in slices."""
        caches = merged([self.fresh()])
        self.feed(caches, 1, tokens)
        return caches

    def batch(self, lengths: Sequence[int]) -> list[Cache]:
        """Sequences that came one after the other and decode until the longest has its length."""
        caches: list[Cache] = []
        for length in lengths:
            caches = joined(caches, self.grown(length - 3))
        for _ in range(3):
            self.network.forward(mx.zeros((len(lengths), 1), mx.int32), caches)
        return caches


def bytes_of(caches: Sequence[Cache]) -> int:
    return sum(cache.nbytes for cache in caches)


def kinds() -> list[tuple[str, int | None]]:
    return [*((name, None) for name in ARCHITECTURES), ("llama", 8), ("llama", 4), ("qwen3_next", 8)]


@pytest.mark.parametrize(("architecture", "bits"), kinds())
def test_a_batch_takes_what_was_reckoned_but_for_a_step(
    folders: dict[str, Path], architecture: str, bits: int | None
) -> None:
    model = Traced(folders[architecture], bits)
    footprint = model.footprint()
    for lengths in ([300], [257], [4], [300, 40, 520], [90, 90, 17]):
        taken = bytes_of(model.batch(lengths))
        reckoned = footprint.batch(lengths)
        slack = len(lengths) * (STEP - 1) * footprint.token_bytes + _sliding_slack(footprint, lengths)
        assert reckoned - slack <= taken <= reckoned


def _sliding_slack(footprint: Footprint, lengths: Sequence[int]) -> int:
    """What windows may hold more than they do after the first token that follows a slice."""
    return sum(
        count
        * layer.token_bytes
        * (SLICE + len(lengths) * (layer.window if max(lengths) < layer.window else 0))
        for layer, count in footprint.layers
        if layer.window is not None
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_sequence_takes_no_more_than_was_reckoned_at_any_place_of_its_prompt(
    folders: dict[str, Path], architecture: str
) -> None:
    model = Traced(folders[architecture])
    footprint = model.footprint()
    caches = merged([model.fresh()])
    length = 0
    for tokens in (5, 60, 64, 64, 63, 1, 1, 64, 1):
        model.network.forward(mx.zeros((1, tokens), mx.int32), caches)
        length += tokens
        assert bytes_of(caches) <= footprint.sequence(length)


def test_the_same_is_measured_on_a_batch_of_one_and_later(folders: dict[str, Path]) -> None:
    for architecture in ARCHITECTURES:
        model = Traced(folders[architecture])
        assert Footprint.of(model.grown(300), SLICE) == model.footprint()


def test_a_stage_has_the_footprint_of_its_own_layers(folders: dict[str, Path]) -> None:
    model = Traced(folders["llama"])
    caches = model.grown(1)
    whole, half = Footprint.of(caches), Footprint.of(caches[:2])
    assert whole.token_bytes == 2 * half.token_bytes == 4 * 2 * 2 * 32 * 4


def test_what_can_be_cut_and_what_not_are_told_apart(folders: dict[str, Path]) -> None:
    per_token = 2 * 2 * 32 * 4
    llama, sliding, states = (
        Traced(folders[name]).footprint() for name in ("llama", "gpt_oss", "qwen3_next")
    )
    assert (llama.token_bytes, llama.state_bytes) == (4 * per_token, 0)
    assert (sliding.token_bytes, sliding.state_bytes) == (2 * per_token, 2 * 16 * per_token)
    assert states.token_bytes == 2 * per_token
    fixed = Traced(folders["qwen3_next"]).grown(1)
    assert states.state_bytes == sum(cache.nbytes for cache in fixed if not hasattr(cache, "keys"))


def test_the_longest_sequence_that_fits_is_the_longest(folders: dict[str, Path]) -> None:
    for architecture in ARCHITECTURES:
        footprint = Traced(folders[architecture]).footprint()
        for budget in (1, 10**5, 10**6, 12_345_678):
            tokens = footprint.tokens_in(budget)
            assert footprint.sequence(tokens + 1) > budget
            assert tokens == 0 or footprint.sequence(tokens) <= budget


def test_where_nothing_grows_there_is_no_longest() -> None:
    assert Footprint(((Layer(fixed_bytes=10), 3),)).tokens_in(30) == ENDLESS
    assert Footprint(((Layer(fixed_bytes=10), 3),)).tokens_in(29) == 0
    assert Footprint(()).copying([5]) == 0


def test_chunks_are_windows_and_a_layers_several_caches_count_each() -> None:
    chunks, plain, states = ChunkedKVCache(16), KVCache(), ArraysCache(1)
    for cache in (chunks, plain):
        cache.update_and_fetch(mx.zeros((1, 2, 5, 8)), mx.zeros((1, 2, 5, 4)))
    states[0] = mx.zeros((1, 7))
    footprint = Footprint.of([cast(Cache, CacheList(chunks, plain, states))])
    per_token = 2 * (8 + 4) * 4
    assert footprint.layers == (
        (Layer(token_bytes=per_token, window=16), 1),
        (Layer(token_bytes=per_token), 1),
        (Layer(fixed_bytes=7 * 4), 1),
    )
    assert (footprint.token_bytes, footprint.state_bytes) == (per_token, 16 * per_token + 7 * 4)


def test_copying_takes_room_for_some_layers_not_for_all() -> None:
    deep = Footprint(((Layer(token_bytes=8), 30),), step=1)
    assert deep.copying([10, 2]) == 3 * (2 * 10 * 8)
    assert deep.batch([10, 2]) == 30 * (2 * 10 * 8)
    assert Footprint(((Layer(token_bytes=8), 1),), step=1).copying([10]) == 10 * 8
    assert deep.batch([]) == deep.copying([]) == 0
