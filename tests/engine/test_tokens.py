"""The tokens are those of a bare greedy mlx-lm loop, however a prompt is sliced and whatever else runs."""

from __future__ import annotations

import pytest

from engine.gauges import Gauges
from engine.loader import Loaded, load
from engine.ranks.conductor import alone
from engine.scheduling.batch import Batch
from engine.steps.entry import Entry
from tests.engine.conftest import Models
from tests.engine.reference import greedy

PROMPT = [(7 * index + index * index // 3) % 500 + 20 for index in range(150)]
TOKENS = 24


def bare(loaded: Loaded, prompt: list[int], tokens: int = TOKENS) -> list[int]:
    return greedy(loaded.network, prompt, tokens)


def make_batch(loaded: Loaded) -> Batch:
    return Batch(alone(loaded.stage, Gauges()))


def generate(batch: Batch, uids: list[int], slice_tokens: int, tokens: int = TOKENS) -> list[list[int]]:
    made: dict[int, list[int]] = {uid: [] for uid in uids}
    while any(len(each) < tokens for each in made.values()):
        for part in batch.step(slice_tokens).chosen:
            if part.uid in made:
                made[part.uid].append(part.token)
    return [each[:tokens] for each in made.values()]


@pytest.mark.parametrize("slice_tokens", [1, 7, 32, 64, 100, 149, 2048])
def test_every_slice_size_gives_the_same_tokens(loaded: Loaded, slice_tokens: int) -> None:
    batch = make_batch(loaded)
    uid = batch.insert(Entry(PROMPT))
    assert generate(batch, [uid], slice_tokens) == [bare(loaded, PROMPT)]


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "qwen3_moe", "deepseek_v3", "gpt_oss", "gemma3"])
@pytest.mark.parametrize("slice_tokens", [17, 2048])
def test_every_architecture_keeps_its_tokens_in_slices(
    models: Models, architecture: str, slice_tokens: int
) -> None:
    loaded = load(models(architecture), None, lambda doing, progress: None)
    batch = make_batch(loaded)
    uid = batch.insert(Entry(PROMPT))
    assert generate(batch, [uid], slice_tokens) == [bare(loaded, PROMPT)]


def test_prompts_of_different_lengths_in_one_pass_keep_their_tokens(loaded: Loaded) -> None:
    prompts = [PROMPT[:length] for length in (1, 2, 5, 33, 100)]
    batch = make_batch(loaded)
    uids = [batch.insert(Entry(prompt)) for prompt in prompts]
    assert generate(batch, uids, 64) == [bare(loaded, prompt) for prompt in prompts]


def test_a_prompt_that_is_sliced_beside_a_stream_changes_neither(loaded: Loaded) -> None:
    batch = make_batch(loaded)
    first = batch.insert(Entry(PROMPT[:20]))
    while batch.prefilling:
        batch.step(2048)
    second = batch.insert(Entry(PROMPT))
    assert generate(batch, [first, second], 16, 12) == [
        bare(loaded, PROMPT[:20], 12),
        bare(loaded, PROMPT, 12),
    ]


def test_removing_sequences_leaves_the_others_tokens_as_they_were(loaded: Loaded) -> None:
    batch = make_batch(loaded)
    kept = [batch.insert(Entry(PROMPT[:length])) for length in (10, 90)]
    doomed = [batch.insert(Entry(PROMPT[length:])) for length in range(10, 42)]
    made: dict[int, list[int]] = {uid: [] for uid in kept}
    for step in range(60):
        for part in batch.step(256).chosen:
            if part.uid in made:
                made[part.uid].append(part.token)
        if step == 5:
            batch.remove(doomed[:16])
        if step == 9:
            batch.remove(doomed[16:])
    for uid, length in zip(kept, (10, 90), strict=True):
        assert len(made[uid]) >= TOKENS
        assert made[uid][:TOKENS] == bare(loaded, PROMPT[:length])


@pytest.mark.parametrize("architecture", ["llama", "deepseek_v3", "gpt_oss", "gemma3"])
def test_a_prefill_that_gave_way_goes_on_where_it_was_with_the_same_tokens(
    models: Models, architecture: str
) -> None:
    loaded = load(models(architecture), None, lambda doing, progress: None)
    stepper = alone(loaded.stage, Gauges())
    batch = Batch(stepper)
    stream = batch.insert(Entry(PROMPT[:20]))
    while not batch.decoding:
        batch.step(2048)
    long = batch.insert(Entry(PROMPT))
    for _ in range(3):
        batch.step(20)
    kept = batch.put_aside(long)
    assert kept.done == 60
    short = batch.insert(Entry(PROMPT[:30]))
    for _ in range(3):
        batch.step(64)
    long = batch.insert(Entry(PROMPT), kept)
    outcome = batch.step(20)
    assert [(part.uid, part.done, part.total) for part in outcome.progress] == [(long, 80, 150)]
    assert generate(batch, [long], 20) == [bare(loaded, PROMPT)]
    batch.remove([stream, short, long])
    batch.tidy()
    stepper.settle()
    assert stepper.kv_bytes == 0


@pytest.mark.parametrize("architecture", ["llama", "deepseek_v3", "gpt_oss", "gemma3"])
def test_an_answer_that_is_taken_up_after_any_token_goes_on_with_the_same_ones(
    models: Models, architecture: str
) -> None:
    loaded = load(models(architecture), None, lambda doing, progress: None)
    whole = bare(loaded, PROMPT)
    batch = make_batch(loaded)
    for cut in range(1, TOKENS, 5):
        uid = batch.insert(Entry(PROMPT + whole[:cut]))
        assert generate(batch, [uid], 64, TOKENS - cut) == [whole[cut:]]
        batch.remove([uid])
