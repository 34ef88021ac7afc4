"""The step loop on a real model: streams, cancels, faults, seeds, stops."""

from __future__ import annotations

import mlx.core as mx
import pytest

from bus.messages.generation import FinishReason, RefusalCode, Sampling, Stopping
from engine.life import sequence_of
from engine.loader import Loaded
from engine.sampling.guard import Guard
from engine.text.reply import Reply
from engine.text.sequence import Sequence
from engine.work import End, Job
from tests.engine.harness import Harness, Steady

WORDS = "how do I add a second machine to the cluster and where do models go "


def long(tokens: int) -> Stopping:
    return Stopping(max_tokens=tokens, ignore_eos=True)


def test_a_stream_says_one_delta_per_step_and_ends_once(harness: Harness) -> None:
    sequence = harness.submit(WORDS)
    harness.finish(sequence)
    deltas = harness.deltas(sequence)
    assert [delta.tokens for delta in deltas] == [1] * 16
    assert [delta.finish is not None for delta in deltas] == [False] * 15 + [True]
    finish = deltas[-1].finish
    assert finish is not None
    assert (finish.reason, finish.completion_tokens) == (FinishReason.LENGTH, 16)


@pytest.fixture
def careful(loaded: Loaded) -> Harness:
    """Takes the smallest slices, on any machine."""
    return Harness(loaded, pace=Steady())


def test_prefill_is_told_as_it_goes_on(careful: Harness) -> None:
    harness = careful
    stream = harness.submit(WORDS, stopping=long(200))
    sequence = harness.submit(WORDS * 60)
    harness.finish(stream, sequence)
    done, totals = zip(*harness.prefilled(sequence), strict=True)
    assert list(done) == sorted(done)
    assert set(totals) == {done[-1]}
    assert len(done) > 2


def test_a_prompt_and_answer_never_exceed_the_context(harness: Harness, loaded: Loaded) -> None:
    prompt = WORDS * 100
    sequence = harness.submit(prompt, stopping=Stopping(max_tokens=10**9, ignore_eos=True))
    harness.finish(sequence)
    finish = harness.deltas(sequence)[-1].finish
    assert finish is not None
    assert finish.reason is FinishReason.LENGTH
    assert finish.completion_tokens == loaded.context - len(loaded.tokenizer.encode(prompt))


def test_a_running_stream_gets_a_token_in_every_step_while_a_long_prompt_is_prefilled(
    careful: Harness,
) -> None:
    harness = careful
    stream = harness.submit(WORDS, stopping=long(400))
    harness.turn(4)
    before = len(harness.deltas(stream))
    newcomer = harness.submit(WORDS * 60)
    turns = 0
    while not harness.deltas(newcomer):
        harness.turn()
        turns += 1
    assert len(harness.deltas(stream)) - before == turns
    assert turns > 4


def test_a_short_prompt_passes_a_long_one_whose_prefill_is_under_way(careful: Harness) -> None:
    stream = careful.submit(WORDS, stopping=long(500))
    careful.turn(4)
    slow = careful.submit(WORDS * 100)
    careful.turn(3)
    quick = careful.submit(WORDS)
    careful.finish(quick)
    assert not careful.deltas(slow)
    careful.finish(slow)
    done = [done for done, _ in careful.prefilled(slow)]
    assert done == sorted(set(done)), "what was computed is kept"
    assert careful.text(slow) == Harness.run(careful, careful.submit(WORDS * 100))[0]
    careful.cancel(stream)


def test_a_prefill_that_gave_way_can_be_cancelled(careful: Harness) -> None:
    stream = careful.submit(WORDS, stopping=long(500))
    careful.turn(4)
    slow = careful.submit(WORDS * 100)
    careful.turn(3)
    quick = careful.submit(WORDS * 4)
    careful.turn(2)
    assert careful.prefilled(quick)
    assert not careful.deltas(slow)
    careful.cancel(slow)
    careful.finish(quick)
    careful.turn(3)
    assert not careful.deltas(slow)
    careful.cancel(stream)
    careful.turn()
    assert careful.gauges.reading.kv_bytes == 0


def test_short_prompts_are_prefilled_together(loaded: Loaded) -> None:
    harness = Harness(loaded, gap_s=60.0)
    harness.finish(harness.submit(WORDS * 30))
    sequences = [harness.submit(WORDS) for _ in range(6)]
    harness.turn(2)
    assert harness.batch.decoding == len(sequences)


def test_a_cancel_takes_effect_before_the_next_step_wherever_a_sequence_stands(careful: Harness) -> None:
    harness = careful
    decoding = harness.submit(WORDS, stopping=long(500))
    harness.turn(3)
    prefilling = harness.submit(WORDS * 60)
    harness.turn()
    waiting = harness.submit(WORDS * 60)
    harness.turn()
    assert (harness.batch.decoding, harness.batch.prefilling) == (1, 1)
    said = len(harness.said)
    harness.cancel(decoding, prefilling, waiting)
    harness.turn()
    assert len(harness.said) == said + 1, "the step before is still said, and no other"
    assert len(harness.batch) == 0
    assert harness.gauges.reading.kv_bytes == 0
    assert harness.gauges.reading.waiting == 0


def test_cancelling_what_is_unknown_or_over_does_nothing(harness: Harness) -> None:
    over = harness.submit(WORDS)
    harness.finish(over)
    running = harness.submit(WORDS)
    harness.cancel(over)
    harness.finish(running)
    assert len(harness.deltas(running)) == 16


def test_killing_32_streams_frees_their_memory_and_leaves_the_others_tokens_as_they_were(
    loaded: Loaded,
) -> None:
    prompts = [WORDS + str(number) for number in range(4)]
    alone = Harness(loaded)
    expected = alone.run(*(alone.submit(prompt, stopping=long(40)) for prompt in prompts))

    harness = Harness(loaded)
    baseline = harness.gauges.reading.kv_bytes
    kept = [harness.submit(prompt, stopping=long(40)) for prompt in prompts]
    killed = [harness.submit(WORDS * 3 + str(number), stopping=long(500)) for number in range(32)]
    harness.turn(20)
    assert harness.batch.decoding == 36
    harness.cancel(*killed)
    assert harness.run(*kept) == expected
    assert harness.gauges.reading.kv_bytes == baseline == 0


def test_active_memory_returns_to_where_it_was(harness: Harness) -> None:
    sequences = [harness.submit(WORDS, stopping=long(500)) for _ in range(8)]
    harness.turn(10)
    harness.cancel(*sequences)
    harness.turn()
    baseline = harness.gauges.reading.active_bytes
    for _ in range(3):
        sequences = [harness.submit(WORDS * 20, stopping=long(500)) for _ in range(8)]
        harness.turn(15)
        harness.cancel(*sequences)
        harness.turn()
    assert harness.gauges.reading.active_bytes <= baseline + 200_000
    assert harness.gauges.reading.cached_bytes == 0


@pytest.mark.parametrize("sampling", [Sampling(seed=11), Sampling(seed=-5, top_p=0.9, temperature=0.7)])
def test_a_seed_reproduces_an_answer_whatever_else_is_in_the_batch(
    harness: Harness, sampling: Sampling
) -> None:
    (alone,) = harness.run(harness.submit(WORDS, sampling))
    others = [
        harness.submit(WORDS * number, Sampling(temperature=1.3), stopping=long(90)) for number in range(1, 6)
    ]
    harness.turn(3)
    assert harness.run(harness.submit(WORDS, sampling)) == [alone]
    harness.finish(*others)


def test_answers_without_a_seed_differ(harness: Harness) -> None:
    texts = harness.run(*(harness.submit(WORDS, Sampling(temperature=1.0)) for _ in range(6)))
    assert len(set(texts)) > 1


def test_penalties_and_biases_are_a_sequences_own(harness: Harness) -> None:
    (plain,) = harness.run(harness.submit(WORDS))
    biased = harness.submit(WORDS, Sampling(temperature=0.0, logit_bias={300: 1000.0}))
    beside = harness.submit(WORDS)
    harness.finish(biased, beside)
    assert harness.text(beside) == plain
    assert harness.text(biased) != plain
    once = harness.submit(WORDS, Sampling(temperature=0.0, logit_bias={300: 1000.0}, presence_penalty=2000.0))
    harness.finish(once)
    assert harness.text(once) != harness.text(biased)


def test_a_stop_string_ends_a_sequence_before_the_next_step(harness: Harness) -> None:
    (text,) = harness.run(harness.submit(WORDS, stopping=long(30)))
    stop = text[9:12]
    end = text.index(stop)
    stopped = harness.submit(WORDS, stopping=Stopping(max_tokens=30, stop=(stop,), ignore_eos=True))
    harness.finish(stopped)
    assert harness.text(stopped) == text[:end]
    finish = harness.deltas(stopped)[-1].finish
    assert finish is not None
    assert (finish.reason, finish.stop_string) == (FinishReason.STOP, stop)
    assert finish.completion_tokens < 30
    assert len(harness.batch) == 0


def test_an_end_of_sequence_token_ends_the_answer_and_is_not_shown(harness: Harness, loaded: Loaded) -> None:
    (end,) = loaded.tokenizer.eos
    sampling = Sampling(temperature=0.0, logit_bias={end: 1000.0})
    sequence = harness.submit(WORDS, sampling, Stopping())
    harness.finish(sequence)
    (delta,) = harness.deltas(sequence)
    assert delta.text == ""
    assert delta.finish is not None
    assert (delta.finish.reason, delta.finish.completion_tokens) == (FinishReason.STOP, 1)


def test_no_tokens_wanted_no_tokens_computed(harness: Harness) -> None:
    sequence = harness.submit(WORDS, stopping=Stopping(max_tokens=0))
    harness.finish(sequence)
    (delta,) = harness.deltas(sequence)
    assert delta.finish is not None
    assert (delta.tokens, delta.finish.reason) == (0, FinishReason.LENGTH)


def test_log_probabilities_are_sorted_and_their_texts_join_to_the_answer(harness: Harness) -> None:
    sequence = harness.submit(WORDS, Sampling(seed=3), logprobs=4)
    harness.finish(sequence)
    entries = [entry for delta in harness.deltas(sequence) for entry in delta.logprobs]
    assert len(entries) == 16
    text = harness.text(sequence)
    assert text.startswith("".join(entry.text for entry in entries))
    assert b"".join(entry.bytes for entry in entries).decode(errors="replace") == text
    for entry in entries:
        values = [rival.logprob for rival in entry.top]
        assert values == sorted(values, reverse=True)
        assert len(values) == 4
        assert entry.logprob is not None
        assert entry.logprob <= values[0] <= 0.0


def test_the_most_likely_tokens_agree_with_the_greedy_choice(harness: Harness) -> None:
    sequence = harness.submit(WORDS, logprobs=1)
    beside = harness.submit(WORDS, logprobs=0)
    harness.finish(sequence, beside)
    entries = [entry for delta in harness.deltas(sequence) for entry in delta.logprobs]
    assert all(entry.token == entry.top[0].token for entry in entries)
    assert all(not entry.top for delta in harness.deltas(beside) for entry in delta.logprobs)


def test_a_fault_in_one_sequences_text_ends_that_sequence_alone(loaded: Loaded) -> None:
    class Broken:
        def add(self, token: int) -> str:
            raise ValueError("broken")

        def finish(self) -> str:
            return ""

    def some_break(job: Job, model: Loaded) -> Sequence:
        if job.decoding.seed == 1:
            return Sequence(job, frozenset(), Broken(), Reply(None, None), model.speller)
        return sequence_of(job, model)

    harness = Harness(loaded, sequence_of=some_break)
    first, second, third = (harness.submit(WORDS, Sampling(temperature=0.0, seed=seed)) for seed in range(3))
    harness.finish(first, second, third)
    refused = harness.refusal(second)
    assert refused is not None
    assert refused.refusal.code is RefusalCode.ENGINE_FAILED
    assert harness.text(first) == harness.text(third) != ""
    assert len(harness.batch) == 0


def test_a_fault_in_one_sequences_penalties_ends_that_sequence_alone(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    (expected,) = harness.run(harness.submit(WORDS))

    def fail(tokens: mx.array, logits: mx.array) -> mx.array:
        raise ValueError("broken")

    monkeypatch.setattr(Guard, "of", lambda entry: Guard(fail) if entry.row.seed == 1 else None)
    broken = harness.submit(WORDS, Sampling(temperature=0.0, seed=1))
    healthy = harness.submit(WORDS)
    harness.finish(broken, healthy)
    refused = harness.refusal(broken)
    assert refused is not None
    assert refused.refusal.code is RefusalCode.ENGINE_FAILED
    assert harness.text(healthy) == expected
    assert len(harness.batch) == 0


def test_no_more_run_than_may(loaded: Loaded) -> None:
    harness = Harness(loaded, max_running=3)
    sequences = [harness.submit(WORDS) for _ in range(8)]
    most = 0
    while not all(harness.over(sequence) for sequence in sequences):
        harness.turn()
        most = max(most, len(harness.batch))
    assert most == 3


def test_an_end_ends_the_loop(harness: Harness) -> None:
    harness.inbox.put(End())
    harness.loop.run()
    assert not harness.said
