"""Sequences in a batch with a quantised KV cache get what each gets alone with mlx-lm's own."""

from __future__ import annotations

import copy
import gc
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import mlx.core as mx
import pytest
from mlx_lm.models.cache import ArraysCache, CacheList, KVCache, QuantizedKVCache, RotatingKVCache

from engine.border import Network
from engine.examine import examine
from engine.memory.caches import Cache, compute, joined, merged, split
from engine.memory.quantised import BITS, BatchQuantisedCache, QuantisedCache, quantise, why_not
from engine.prefixes.layers import cut_out
from scripts.guide.network import build, save_weights
from scripts.make_model import make_model, random_weights
from tests.engine.stress.judging import Roundings

PROMPTS = [
    [(7 * index + row * index * index) % 500 + 20 for index in range(40 - 11 * row)] for row in (0, 1, 2)
]
FOLLOWING = [33, 44, 55, 66]
"""What each sequence is given after its prompt, so that one wrong token does not hide what comes after."""
ARCHITECTURES = ("llama", "qwen3", "gemma3", "qwen3_next")


@pytest.fixture(autouse=True)
def files_are_closed() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def roundings_are_forgiven() -> Iterator[None]:
    with Roundings().forgiven():
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("quantised")
    names = (*ARCHITECTURES, "gpt_oss")
    return {name: make_model(name, root / name, layers=2, hidden=128) for name in names}


def fresh(network: Network, bits: int) -> list[Cache]:
    return quantise(network.make_caches(), bits)


def mlx_lms_own(network: Network, bits: int) -> list[Cache]:
    """As mlx-lm has them for one sequence."""
    return [
        cast(Cache, QuantizedKVCache(group_size=32, bits=bits)) if type(cache) is KVCache else cache
        for cache in network.make_caches()
    ]


def alone(network: Network, prompt: Sequence[int], bits: int) -> list[mx.array]:
    """Logits [vocabulary] after the prompt and after each following token."""
    caches = mlx_lms_own(network, bits)
    rows = [network.forward(mx.array([list(prompt)]), caches)[0, -1]]
    for token in FOLLOWING:
        rows.append(network.forward(mx.array([[token]]), caches)[0, -1])
        compute(caches)
    return rows


class Batch:
    """Rows that are prefilled but for their last token, and given the same tokens as `alone`."""

    def __init__(self, network: Network, bits: int) -> None:
        self.network = network
        self.bits = bits
        self.caches: list[Cache] = []
        self.rows: list[int] = []
        self.given: dict[int, int] = {}
        self.logits: dict[int, list[mx.array]] = {}

    def prefilled(self, rows: Sequence[int]) -> list[Cache]:
        """In two slices, the second one padded on the right."""
        caches = merged([fresh(self.network, self.bits) for _ in rows])
        prompts = [PROMPTS[row][:-1] for row in rows]
        self.network.forward(mx.array([prompt[:9] for prompt in prompts]), caches)
        rest = [prompt[9:] for prompt in prompts]
        longest = max(len(each) for each in rest)
        padding = [longest - len(each) for each in rest]
        for cache in caches:
            cache.prepare(lengths=[len(each) for each in rest], right_padding=padding)
        self.network.forward(mx.array([each + [0] * (longest - len(each)) for each in rest]), caches)
        compute(caches)
        for cache in caches:
            cache.finalize()
        return caches

    def join(self, rows: Sequence[int], caches: list[Cache]) -> None:
        self.caches = joined(self.caches, caches)
        self.rows += rows
        for row in rows:
            self.given.setdefault(row, 0)

    def leave(self, row: int) -> None:
        keep = [place for place, each in enumerate(self.rows) if each != row]
        self.rows.remove(row)
        for cache in self.caches:
            cache.filter(keep)

    def decode(self, steps: int) -> None:
        for _ in range(steps):
            tokens = [[*PROMPTS[row][-1:], *FOLLOWING][self.given[row]] for row in self.rows]
            logits = self.network.forward(mx.array(tokens)[:, None], self.caches)
            compute(self.caches)
            for place, row in enumerate(self.rows):
                self.given[row] += 1
                self.logits.setdefault(row, []).append(logits[place, -1])


def agree(one: Sequence[mx.array], other: Sequence[mx.array]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return bool(pairs) and all(bool(mx.allclose(*pair, atol=1e-4).item()) for pair in pairs)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_batch_gives_what_each_sequence_gets_alone(
    folders: dict[str, Path], architecture: str, bits: int
) -> None:
    network = Network(folders[architecture])
    batch = Batch(network, bits)
    batch.join([0, 2], batch.prefilled([0, 2]))
    batch.decode(2)
    batch.join([1], batch.prefilled([1]))
    batch.decode(1)
    # Who goes and comes again misses nothing, and the others less padding than they had.
    away = [cache.extract(batch.rows.index(0)) for cache in batch.caches]
    batch.leave(0)
    batch.decode(1)
    batch.join([0], merged([away]))
    batch.decode(1)
    batch.leave(2)
    batch.decode(1)
    for row, prompt in enumerate(PROMPTS):
        given = batch.logits[row]
        assert agree(given, alone(network, prompt, bits)[: len(given)])


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("slices", [1, 7, 40])
def test_what_is_kept_of_a_token_hangs_on_no_other_that_comes_with_it(
    folders: dict[str, Path], slices: int, bits: int
) -> None:
    """Groups of numbers with a scale in common lie within one token's head."""
    network = Network(folders["llama"])
    text, after = PROMPTS[0][:40], PROMPTS[1][:5]
    at_once, sliced, beside = (fresh(network, bits) for _ in range(3))
    network.forward(mx.array([text]), at_once)
    for start in range(0, len(text), slices):
        network.forward(mx.array([text[start : start + slices]]), sliced)
    other = fresh(network, bits)
    network.forward(mx.array([after]), other)
    batch = merged([other, beside])
    for cache in batch:
        cache.prepare(lengths=[3, len(text)], right_padding=[len(text) - 3, 0])
    network.forward(mx.array([[*after[:3], *[0] * (len(text) - 3)], text]), batch)
    for cache in batch:
        cache.finalize()
    for layer, cache in enumerate(batch):
        pieces = [cut_out(each, 0, len(text)) for each in (at_once[layer], sliced[layer], cache.extract(1))]
        for one, *others in zip(*(piece.arrays for piece in pieces), strict=True):
            assert all(bool(mx.array_equal(one, other).item()) for other in others)


def test_an_extracted_sequence_is_what_it_would_be_alone(folders: dict[str, Path]) -> None:
    network = Network(folders["llama"])
    batch = Batch(network, 8)
    caches = batch.prefilled([0, 1, 2])
    for row in (0, 1, 2):
        single = [cache.extract(row) for cache in caches]
        logits = network.forward(mx.array([PROMPTS[row][-1:]]), single)[0, -1]
        assert agree([logits], alone(network, PROMPTS[row], 8)[:1])
        assert all(cast(QuantisedCache, cache).offset == len(PROMPTS[row]) for cache in single)


def test_tokens_can_be_taken_back_and_given_again(folders: dict[str, Path]) -> None:
    network = Network(folders["llama"])
    batch = Batch(network, 4)
    batch.join([0, 1], batch.prefilled([0, 1]))
    batch.decode(2)
    before = copy.deepcopy(batch.logits)
    for cache in batch.caches:
        assert cast(BatchQuantisedCache, cache).is_trimmable()
        assert cast(BatchQuantisedCache, cache).trim(1) == 1
    batch.given = {0: 1, 1: 1}
    batch.decode(1)
    for row in (0, 1):
        assert agree(batch.logits[row][2:], before[row][1:])
    single = cast(QuantisedCache, batch.caches[0].extract(0))
    assert single.trim(1 << 20) == len(PROMPTS[0]) + 1
    assert single.size() == 0


def test_each_row_can_have_its_own_tokens_taken_back(folders: dict[str, Path]) -> None:
    """As after guesses of which some were wrong."""
    network = Network(folders["llama"])
    batch = Batch(network, 8)
    batch.join([0, 1], batch.prefilled([0, 1]))
    guesses = [[*PROMPTS[row][-1:], *FOLLOWING[:2]] for row in (0, 1)]
    guesses[1][2] = 499
    network.forward(mx.array(guesses), batch.caches)
    for cache in batch.caches:
        cache.prepare(lengths=[3, 2], right_padding=[0, 1])
        cache.finalize()
    batch.given = {0: 3, 1: 2}
    batch.decode(1)
    assert agree(batch.logits[0], alone(network, PROMPTS[0], 8)[3:4])
    assert agree(batch.logits[1], alone(network, PROMPTS[1], 8)[2:3])


def test_a_batch_can_begin_with_nothing_and_grow_over_its_step(folders: dict[str, Path]) -> None:
    network = Network(folders["llama"])
    prompt = [(5 * index) % 500 + 20 for index in range(300)]
    caches = joined(merged([fresh(network, 8)]), merged([fresh(network, 8)]))
    assert cast(BatchQuantisedCache, caches[0]).empty()
    for start, end in ((0, 250), (250, 256)):
        network.forward(mx.array([prompt[start:end]] * 2), caches)
        compute(caches)
    logits = network.forward(mx.array([prompt[256:]] * 2), caches)
    expected = alone(network, prompt, 8)[:1]
    assert agree([logits[0, -1]], expected)
    assert agree([logits[1, -1]], expected)
    late = merged([fresh(network, 8)])
    caches = joined(late, caches)
    assert late is caches
    logits = network.forward(mx.array([[33]] * 3), caches)
    assert agree([logits[1, -1]], alone(network, prompt, 8)[1:2])
    assert agree([logits[0, -1]], [network.forward(mx.array([[33]]), mlx_lms_own(network, 8))[0, -1]])


def test_a_batch_can_be_split(folders: dict[str, Path]) -> None:
    network = Network(folders["llama"])
    batch = Batch(network, 8)
    taken, rest = split(batch.prefilled([0, 1, 2]), [2], [0, 1])
    batch.join([2], taken)
    batch.decode(1)
    batch.join([0, 1], rest)
    batch.decode(1)
    for row, prompt in enumerate(PROMPTS):
        assert agree(batch.logits[row], alone(network, prompt, 8)[: len(batch.logits[row])])


def test_what_is_kept_is_as_much_smaller_as_was_promised(folders: dict[str, Path]) -> None:
    network = Network(folders["llama"])
    tokens = mx.array([[20 + index for index in range(256)]])
    plain = network.make_caches()
    network.forward(tokens, plain)
    for bits in BITS:
        caches = fresh(network, bits)
        network.forward(tokens, caches)
        # A scale and a bias of 32 bits each for every 32 numbers of 32 bits.
        share = (bits + 2 * 32 / 32) / 32
        assert sum(cache.nbytes for cache in caches) == share * sum(cache.nbytes for cache in plain)


def test_a_state_says_all(folders: dict[str, Path]) -> None:
    network = Network(folders["llama"])
    batch = Batch(network, 8)
    batch.join([0, 1], batch.prefilled([0, 1]))
    for cache in list(batch.caches):
        again = BatchQuantisedCache([], 4)
        again.state = cast(BatchQuantisedCache, cache).state
        single = QuantisedCache(4)
        single.state = again.extract(1).state
        batch.caches.append(cast(Cache, again))
        assert single.offset == len(PROMPTS[1]) - 1
    del batch.caches[: len(batch.caches) // 2]
    batch.decode(1)
    for row in (0, 1):
        assert agree(batch.logits[row], alone(network, PROMPTS[row], 8)[:1])


# -- which models can have it ----------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_models_with_plain_caches_can_have_theirs_quantised(
    folders: dict[str, Path], architecture: str
) -> None:
    assert examine(folders[architecture]).kv_quant_problem == ""


def test_attention_sinks_are_a_reason_why_not(folders: dict[str, Path]) -> None:
    assert "does not support attention sinks" in examine(folders["gpt_oss"]).kv_quant_problem


def test_heads_that_make_no_groups_are_a_reason_why_not(tmp_path: Path) -> None:
    folder = make_model("llama", tmp_path / "llama", layers=1, hidden=80, heads=2, kv_heads=1)
    assert "heads of 40 numbers can't be divided into groups of 32" in why_not(Network(folder))


def test_attention_that_computes_with_latents_is_a_reason_why_not(tmp_path: Path) -> None:
    folder = make_model("deepseek_v3", tmp_path / "deepseek_v3", layers=1)
    config = json.loads((folder / "config.json").read_text()) | {"kv_lora_rank": 64, "qk_rope_head_dim": 32}
    (folder / "config.json").write_text(json.dumps(config))
    save_weights(random_weights(build(config), 0), folder)
    assert "does not leave keys and values to mlx-lm's own" in why_not(Network(folder))


def test_a_model_without_plain_caches_has_nothing_to_quantise() -> None:
    class States:
        def make_caches(self) -> list[Cache]:
            return []

        def forward(self, tokens: mx.array, caches: list[Cache]) -> mx.array:
            raise AssertionError("there was a reason before")

    assert why_not(States()) == "none of its layers has a plain KV cache"


def test_plain_parts_of_a_layers_caches_are_quantised_and_others_stay() -> None:
    sliding = RotatingKVCache(max_size=16)
    layer = cast(Cache, CacheList(ArraysCache(2), KVCache()))
    quantised = quantise([layer, cast(Cache, sliding)], 4)
    parts = cast(CacheList, quantised[0]).caches
    assert [type(part) for part in parts] == [ArraysCache, QuantisedCache]
    assert quantised[1] is sliding
    (batch,) = merged([quantised[:1], quantise([layer], 4)])
    assert type(cast(CacheList, batch).caches[1]) is BatchQuantisedCache
