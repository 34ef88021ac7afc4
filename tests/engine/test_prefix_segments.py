"""A sequence that begins with what was kept goes on as if all of it had just been computed."""

from __future__ import annotations

import gc
import random
from pathlib import Path
from typing import cast

import mlx.core as mx
import pytest
from mlx_lm.models.cache import ArraysCache, CacheList, KVCache, QuantizedKVCache, RotatingKVCache

from engine.memory.caches import Cache, merged
from engine.memory.quantised import QuantisedCache, quantise
from engine.prefixes.layers import is_sliceable
from engine.prefixes.segments import Segments
from engine.steps.store_orders import Forget, Keep, Mark, Split
from scripts.make_model import make_model
from tests.engine.conftest import Models
from tests.engine.prefixes import KeepingModel, likeliest
from tests.engine.reference import greedy

ARCHITECTURES = ("llama", "deepseek_v3", "qwen3_next", "gemma3", "gpt_oss")
SLICEABLE = ("llama", "deepseek_v3")
LONG = 8


def tokens_of(seed: int, count: int) -> list[int]:
    draw = random.Random(seed)
    return [draw.randrange(20, 500) for _ in range(count)]


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with heads wide enough to be quantised."""
    return make_model("llama", tmp_path_factory.mktemp("wide") / "llama", layers=2, hidden=128)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_next_turn_of_a_conversation_computes_only_what_is_new(models: Models, architecture: str) -> None:
    model = KeepingModel(models(architecture))
    prompt = tokens_of(1, 60)
    for turn in range(3):
        expected = greedy(model.network, prompt, LONG)
        answer, cached = model.answer(prompt, LONG)
        assert answer == expected
        # The answer's last token was never computed.
        assert cached == (0 if turn == 0 else len(prompt) - 7)
        prompt = [*prompt, *answer, *tokens_of(turn, 6)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_conversations_share_a_system_prompt(models: Models, architecture: str) -> None:
    model = KeepingModel(models(architecture))
    system = tokens_of(2, 50)
    for question in range(3):
        prompt = [*system, *tokens_of(10 + question, 15)]
        answer, cached = model.answer(prompt, LONG, marks=[len(system)])
        assert answer == greedy(model.network, prompt, LONG)
        assert cached == (len(system) if question else 0)
    kept = model.segments.nbytes
    # The same once more: only its last token is computed, and nothing new is kept.
    prompt = [*system, *tokens_of(10, 15)]
    answer, cached = model.answer(prompt, LONG)
    assert answer == greedy(model.network, prompt, LONG)
    assert cached == (len(prompt) - 1 if architecture in SLICEABLE else len(system))
    assert model.segments.nbytes == kept


@pytest.mark.parametrize("architecture", SLICEABLE)
def test_a_prompt_that_parts_in_the_middle_uses_what_is_before(models: Models, architecture: str) -> None:
    model = KeepingModel(models(architecture))
    first = tokens_of(3, 300)
    model.answer(first, 2)
    for at in (299, 256, 7):
        prompt = [*first[:at], *tokens_of(at, 12)]
        answer, cached = model.answer(prompt, LONG)
        assert answer == greedy(model.network, prompt, LONG)
        assert cached == at


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_sequences_that_begin_with_more_or_less_of_it_make_a_batch(models: Models, architecture: str) -> None:
    model = KeepingModel(models(architecture))
    first = tokens_of(6, 45)
    model.answer(first, 1, marks=[9, 30])
    prompts = [[*first[:30], *tokens_of(7, 25)], tokens_of(8, 20), [*first[:9], *tokens_of(9, 4)]]
    expected = [greedy(model.network, prompt, 3) for prompt in prompts]
    hits = [model.index.match(prompt, len(prompt) - 1) for prompt in prompts]
    assert [hit.length for hit in hits] == [30, 0, 9]
    batch = merged([model.segments.fetch(hit.path) for hit in hits])
    slices = [prompt[hit.length : -1] for prompt, hit in zip(prompts, hits, strict=True)]
    lengths = [len(each) for each in slices]
    padding = [max(lengths) - length for length in lengths]
    for cache in batch:
        cache.prepare(lengths=lengths, right_padding=padding)
    padded = [each + [0] * count for each, count in zip(slices, padding, strict=True)]
    model.network.forward(mx.array(padded), batch)
    for cache in batch:
        cache.finalize()
    last = [prompt[-1] for prompt in prompts]
    answers = []
    for _ in range(3):
        logits = model.network.forward(mx.array(last)[:, None], batch)
        last = [likeliest(row) for row in logits[:, -1]]
        answers.append(last)
    assert [list(answer) for answer in zip(*answers, strict=True)] == expected


@pytest.mark.parametrize("architecture", ["qwen3_next", "gpt_oss"])
def test_where_states_went_a_prompt_begins_with_the_one_before(models: Models, architecture: str) -> None:
    model = KeepingModel(models(architecture))
    prompt = tokens_of(4, 60)
    model.answer(prompt, 1, marks=[20, 40])
    hit = model.index.match(prompt, 59)
    assert hit.length == 40
    model.segments.forget(Forget((hit.path[-1][0],), states_only=True))
    with pytest.raises(LookupError, match="no state"):
        model.segments.fetch(hit.path)
    assert model.segments.fetch(hit.path[:1])


@pytest.mark.parametrize("bits", [8, 4])
def test_quantised_caches_go_on_with_the_same_numbers(wide: Path, bits: int) -> None:
    model, whole = (KeepingModel(wide, lambda caches: quantise(caches, bits)) for _ in range(2))
    prompt = tokens_of(5, 70)
    model.answer(prompt[:50], 4)
    answer, cached = model.answer(prompt, LONG)
    assert cached == 50
    assert answer == whole.answer(prompt, LONG)[0]


# -- what is kept --------------------------------------------------------------------------------


def plain() -> list[Cache]:
    """A layer's with plain keys and values."""
    return [cast(Cache, KVCache())]


def compute_into(cache: Cache, tokens: int, rows: int = 1, seed: int = 0) -> None:
    """Let it hold so many more of 4 heads with 64 numbers."""
    keys, values = mx.random.normal((2, rows, 4, tokens, 64), key=mx.random.key(seed))
    mx.eval(cast(KVCache, cache).update_and_fetch(keys, values))


def keys_of(cache: Cache) -> mx.array:
    keys, _ = cast(KVCache, cache).keys_and_values()
    return cast(mx.array, keys)


def test_a_kept_part_holds_no_memory_of_the_batch_that_it_was_cut_from() -> None:
    gc.collect()
    segments, before = Segments(plain), mx.get_active_memory()
    batch = merged([plain() for _ in range(8)])
    compute_into(batch[0], 1000, rows=8)
    segments.keep(Keep(0, 1, 0, 10), [batch[0].extract(3)])
    segments.keep(Keep(1, 1, 10, 300), [batch[0].extract(3)])
    segments.split(Split(1, 40, 2))
    segments.forget(Forget((1,)))
    del batch
    assert segments.nbytes == (10 + 250) * 2 * 4 * 64 * 4
    # MLX may hand out a few pages more than are asked for.
    assert mx.get_active_memory() - before < segments.nbytes + 40_000
    segments.forget(Forget((0, 2)))
    assert (segments.nbytes, len(segments)) == (0, 0)
    assert mx.get_active_memory() - before < 1_000


def test_a_row_of_a_batch_is_kept_without_copying_the_rest_of_it() -> None:
    gc.collect()
    batch, segments = merged([plain() for _ in range(8)]), Segments(plain)
    compute_into(batch[0], 1000, rows=8)
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    segments.keep(Keep(0, 1, 990, 1000), batch, row=3)
    assert mx.get_peak_memory() - before < segments.nbytes + 40_000
    taken_out = Segments(plain)
    taken_out.keep(Keep(0, 1, 990, 1000), [batch[0].extract(3)])
    assert segments.shares[0].nbytes == taken_out.shares[0].nbytes
    for own, other in zip(segments.shares[0].arrays, taken_out.shares[0].arrays, strict=True):
        assert mx.array_equal(own, other)


@pytest.mark.parametrize("architecture", ["llama", "gpt_oss", "qwen3_next", "quantised"])
def test_a_row_with_padding_is_kept_as_if_it_stood_alone(
    models: Models, wide: Path, architecture: str
) -> None:
    """In batches whose other rows are longer, or shorter."""
    if architecture == "quantised":
        model = KeepingModel(wide, lambda caches: quantise(caches, 8))
    else:
        model = KeepingModel(models(architecture))
    singles = [model.begin(tokens_of(seed, length))[0] for seed, length in ((11, 30), (12, 21), (13, 40))]
    for sequence, (seed, length) in zip(singles, ((11, 30), (12, 21), (13, 40)), strict=True):
        model.go_on(sequence, tokens_of(seed, length))
    batch = merged([[cache.extract(0) for cache in sequence.caches] for sequence in singles])
    for row, sequence in enumerate(singles):
        alone, beside = Segments(model.fresh), Segments(model.fresh)
        order = Keep(0, 1, 5, len(sequence.tokens), state=True)
        alone.keep(order, sequence.caches, row=0)
        beside.keep(order, batch, row=row)
        pairs = zip(alone.shares[0].arrays, beside.shares[0].arrays, strict=True)
        assert all(mx.array_equal(one, other) for one, other in pairs)


def test_room_for_more_tokens_is_neither_counted_nor_kept() -> None:
    caches, segments = plain(), Segments(plain)
    compute_into(caches[0], 10)
    assert caches[0].nbytes == 256 * 2 * 4 * 64 * 4
    segments.keep(Keep(0, 1, 0, 10), caches)
    assert segments.nbytes == 10 * 2 * 4 * 64 * 4


def test_a_sliding_window_is_kept_without_the_slice_that_passed_it() -> None:
    def sliding() -> list[Cache]:
        return [cast(Cache, RotatingKVCache(16))]

    batch, segments = merged([sliding()]), Segments(sliding)
    compute_into(batch[0], 100)
    compute_into(batch[0], 100, seed=1)
    segments.keep(Keep(0, 1, 0, 200, state=True), [batch[0].extract(0)])
    assert segments.nbytes == 16 * 2 * 4 * 64 * 4
    again = segments.fetch([(0, 200)])
    assert mx.array_equal(keys_of(again[0]), keys_of(batch[0].extract(0))[:, :, -16:])
    assert cast(RotatingKVCache, again[0]).offset == 200


@pytest.mark.parametrize("length", [10, 256])
def test_what_a_sequence_computes_does_not_change_what_it_began_with(length: int) -> None:
    caches, segments = plain(), Segments(plain)
    compute_into(caches[0], length)
    segments.keep(Keep(0, 1, 0, length), caches)
    kept = keys_of(segments.fetch([(0, length)])[0]) + 0
    mx.eval(kept)
    for count in (length, length - 3):
        own = segments.fetch([(0, count)])
        cast(KVCache, own[0]).trim(5)
        compute_into(own[0], 20, seed=2)
        keys = cast(KVCache, own[0]).keys
        keys[...] = 0
        mx.eval(keys)
    cast(KVCache, caches[0]).keys[...] = 0
    assert mx.array_equal(keys_of(segments.fetch([(0, length)])[0]), kept)


def test_a_state_is_not_changed_by_who_began_with_it() -> None:
    def recurrent() -> list[Cache]:
        return [cast(Cache, ArraysCache(2))]

    caches, segments = recurrent(), Segments(recurrent)
    state = cast(ArraysCache, caches[0])
    state[0], state[1] = mx.ones((1, 3)), mx.ones((1, 2, 2))
    segments.keep(Keep(0, 1, 0, 5, state=True), caches)
    state[0][...] = 7
    own = cast(ArraysCache, segments.fetch([(0, 5)])[0])
    own[0][...] = 9
    own[1] = mx.zeros((1, 2, 2))
    again = cast(ArraysCache, segments.fetch([(0, 5)])[0])
    assert mx.array_equal(again[0], mx.ones((1, 3)))
    assert mx.array_equal(again[1], mx.ones((1, 2, 2)))


def test_layers_of_several_caches_are_kept_each_in_its_way() -> None:
    """As Falcon H1 has them: a state beside keys and values; and a cache that its layer never fills."""

    def several() -> list[Cache]:
        return [cast(Cache, CacheList(ArraysCache(1), KVCache(), CacheList(KVCache()))), *plain()]

    caches, segments = several(), Segments(several)
    state, filled, (never,) = cast(CacheList, caches[0])
    state[0] = mx.full((1, 3), 4.0)
    compute_into(filled, 30)
    assert never.empty()
    segments.keep(Keep(0, 1, 0, 20), caches)
    segments.keep(Keep(1, 1, 20, 30, state=True), caches)
    segments.split(Split(1, 5, 2))
    segments.mark(Mark(0, 1), caches)
    again = segments.fetch([(0, 20), (1, 5), (2, 5)])
    state_again, filled_again, (never_again,) = cast(CacheList, again[0])
    assert mx.array_equal(keys_of(filled_again), keys_of(filled))
    assert mx.array_equal(state_again[0], state[0])
    assert never_again.empty()
    assert cast(KVCache, again[1]).empty()
    assert keys_of(cast(CacheList, segments.fetch([(0, 20)])[0])[1]).shape[2] == 20
    assert not is_sliceable(caches)
    assert is_sliceable([*plain(), filled, never, cast(Cache, QuantisedCache(8)), QuantizedKVCache()])


def test_a_sequence_can_begin_with_nothing() -> None:
    assert cast(KVCache, Segments(plain).fetch([])[0]).empty()


def test_what_is_not_there_can_not_be_kept_or_fetched() -> None:
    caches, segments = plain(), Segments(plain)
    compute_into(caches[0], 10)
    with pytest.raises(ValueError, match="a cache of 10 tokens has none up to 11"):
        segments.keep(Keep(0, 1, 0, 11), caches)
    for wrong in (
        lambda: segments.fetch([(3, 1)]),
        lambda: segments.forget(Forget((3,))),
        lambda: segments.split(Split(3, 1, 4)),
        lambda: segments.mark(Mark(3, 1), caches),
    ):
        with pytest.raises(LookupError, match="node 3 is not kept here"):
            wrong()
