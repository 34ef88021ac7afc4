"""A long prompt gives way to a short one in the middle of its prefill: nothing of either is lost."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from bus.messages.base import SequenceId
from bus.messages.engine import Budget, Submit
from bus.messages.generation import Stopping, TokenPrompt
from engine.drafting.drafter import Drafter
from engine.loader import Loaded, load
from engine.scheduling.guesser import Guess, Guesser
from tests.engine.conftest import Models
from tests.engine.harness import GREEDY, Harness, Steady
from tests.engine.reference import greedy
from tests.engine.staged import staged

LONG = tuple((7 * index + index * index // 3) % 500 + 20 for index in range(1500))
SHORT = LONG[333:341]


def tokens_of(harness: Harness, sequence: SequenceId) -> list[int]:
    return [token for delta in harness.deltas(sequence) for token in delta.ids]


def submit(
    harness: Harness,
    name: str,
    prompt: Sequence[int],
    tokens: int = 6,
    *,
    marks: tuple[int, ...] = (),
    priority: int = 0,
    scored: bool = False,
) -> SequenceId:
    sequence = SequenceId(name)
    stopping = Stopping(max_tokens=tokens, ignore_eos=True)
    logprobs = 0 if scored else None
    wish = Submit(
        sequence, TokenPrompt(tuple(prompt)), GREEDY, stopping, logprobs, echo=scored, priority=priority
    )
    harness.inbox.put(replace(harness.intake.accept(wish), marks=marks))
    return sequence


def turn_until_part_of_it_is_computed(harness: Harness, least: int = 1) -> int:
    """How much it was, once it was so much; on a slow machine slices are small."""
    while (done := max((done for _, _, done in harness.batch.standing()), default=0)) < least:
        harness.turn()
    return done


@pytest.fixture(autouse=True)
def files_are_closed() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture
def model(models: Models) -> Loaded:
    return load(models("llama"), None, lambda doing, progress: None)


@pytest.mark.parametrize("architecture", ["qwen3_next", "gpt_oss"])
def test_a_prompt_can_give_way_just_where_its_beginning_is_to_be_kept(
    models: Models, architecture: str
) -> None:
    loaded = load(models(architecture), None, lambda doing, progress: None)
    harness = Harness(loaded, prefixes=True, pace=Steady())
    long = submit(harness, "long", LONG, marks=(100,))
    assert turn_until_part_of_it_is_computed(harness, 100) == 100
    short = submit(harness, "short", SHORT, priority=1)
    harness.finish(long, short)
    assert tokens_of(harness, long) == greedy(loaded.network, LONG, 6)
    assert tokens_of(harness, short) == greedy(loaded.network, SHORT, 6)
    again = submit(harness, "again", (*LONG[:100], *SHORT))
    harness.finish(again)
    assert harness.deltas(again)[-1].finish is not None
    assert harness.gauges.reading.cached_tokens == 100, "it was kept before it gave way"


def test_what_is_put_aside_counts_as_memory_that_is_taken(model: Loaded) -> None:
    harness = Harness(model, pace=Steady())
    size = harness.footprint.sequence(1600) + harness.footprint.copying([1600])
    harness.inbox.put(Budget(kv_bytes=size, cache_bytes=1 << 26))
    long = submit(harness, "long", LONG)
    assert turn_until_part_of_it_is_computed(harness) < len(LONG) / 2
    short = submit(harness, "short", SHORT, 40, priority=1)
    urgent = submit(harness, "urgent", LONG[1:], priority=1)
    most = 0
    while not all(map(harness.over, (long, short, urgent))):
        harness.turn()
        most = max(most, harness.stepper.kv_bytes)
    assert most <= size
    for sequence, prompt, count in ((long, LONG, 6), (short, SHORT, 40), (urgent, LONG[1:], 6)):
        assert tokens_of(harness, sequence) == greedy(model.network, prompt, count)


def test_who_is_sent_away_while_it_is_put_aside_leaves_no_memory_taken(model: Loaded) -> None:
    harness = Harness(model, pace=Steady(), max_running=1)
    long = submit(harness, "long", LONG)
    assert turn_until_part_of_it_is_computed(harness) < len(LONG) / 2
    short = submit(harness, "short", SHORT, 40, priority=1)
    while not harness.deltas(short):
        harness.turn()
    assert not harness.over(long)
    harness.inbox.put(Budget(kv_bytes=harness.footprint.sequence(200), cache_bytes=1 << 26))
    harness.finish(long, short)
    refusal = harness.refusal(long)
    assert refusal is not None
    assert "tokens at most" in refusal.refusal.message
    assert harness.stepper.kv_bytes == 0


def test_the_scores_of_a_prompt_are_whole_though_it_gave_way_between_two_slices(models: Models) -> None:
    folder = models("llama")
    loaded = load(folder, None, lambda doing, progress: None)
    harness = Harness(loaded, pace=Steady(), stepper_of=lambda *rest: staged(folder, 2, 2, *rest)[0])
    scored = [submit(harness, f"scored {place}", LONG[place:], 0, scored=True) for place in range(2)]
    while not all(map(harness.prefilled, scored)):
        harness.loop.turn()
    short = submit(harness, "short", SHORT, 3, priority=1)
    while not all(map(harness.over, (*scored, short))):
        harness.loop.turn()
    assert [len(harness.deltas(each)[-1].logprobs) for each in scored] == [len(LONG), len(LONG) - 1]
    assert tokens_of(harness, short) == greedy(loaded.network, SHORT, 3)


class Remembering(Guesser):
    """Tells whom it knows something of."""

    def __init__(self) -> None:
        super().__init__(Drafter())
        self.known: set[int] = set()

    def learn(self, guess: Guess, chosen: Sequence[int], took_s: float) -> None:
        super().learn(guess, chosen, took_s)
        self.known.update(guess.uids)

    def forget(self, uids: Sequence[int]) -> None:
        super().forget(uids)
        self.known.difference_update(uids)


def test_nothing_is_remembered_of_who_was_cancelled_in_the_middle_of_a_step(models: Models) -> None:
    folder, guesser = models("llama"), Remembering()
    loaded = load(folder, None, lambda doing, progress: None)
    harness = Harness(loaded, guesser=guesser, stepper_of=lambda *rest: staged(folder, 2, 2, *rest)[0])
    asked = [submit(harness, f"asked {place}", SHORT, 60) for place in range(6)]
    last = submit(harness, "last", SHORT, 60)
    while not all(map(harness.deltas, (*asked, last))):
        harness.loop.turn()
    assert guesser.known
    for each in asked:
        harness.cancel(each)
        harness.loop.turn()
    while not harness.over(last):
        harness.loop.turn()
    assert not guesser.known
