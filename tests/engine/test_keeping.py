"""What is kept of prompts and answers, who is put off for memory, and what is guessed: no token changes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import cast

import pytest

from bus.messages.base import SequenceId
from bus.messages.engine import Budget, Step
from bus.messages.generation import JsonFormat, Stopping, TokenPrompt
from engine.loader import Loaded, load
from engine.memory.admission import Holding
from engine.memory.footprint import Footprint, Layer
from engine.prefixes.index import Index
from engine.scheduling.guesser import Guess, Guesser
from engine.scheduling.keeper import Keeper
from engine.steps.stepper import Stepper
from engine.steps.store_orders import Forget, Keep, StoreOrder
from tests.engine.conftest import Models
from tests.engine.harness import GREEDY, Harness
from tests.engine.reference import greedy

PROMPT = tuple((7 * index + index * index // 3) % 500 + 20 for index in range(300))
ARCHITECTURES = ["llama", "deepseek_v3", "gpt_oss", "gemma3", "qwen3_next"]


def tokens_of(harness: Harness, sequence: SequenceId) -> list[int]:
    return [token for delta in harness.deltas(sequence) for token in delta.ids]


def cached(harness: Harness, sequence: SequenceId) -> int:
    finish = harness.deltas(sequence)[-1].finish
    assert finish is not None
    return finish.cached_tokens


def submit(harness: Harness, prompt: tuple[int, ...], tokens: int) -> SequenceId:
    return harness.submit(
        TokenPrompt(tuple(prompt)), sampling=GREEDY, stopping=Stopping(max_tokens=tokens, ignore_eos=True)
    )


@pytest.fixture
def keeping(models: Models) -> Callable[[str], tuple[Harness, Loaded]]:
    def make(architecture: str) -> tuple[Harness, Loaded]:
        loaded = load(models(architecture), None, lambda doing, progress: None)
        return Harness(loaded, prefixes=True), loaded

    return make


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_next_turn_of_a_conversation_computes_only_what_is_new(
    keeping: Callable[[str], tuple[Harness, Loaded]], architecture: str
) -> None:
    harness, loaded = keeping(architecture)
    first = submit(harness, PROMPT, 20)
    harness.finish(first)
    answer = tokens_of(harness, first)
    assert cached(harness, first) == 0
    turn = (*PROMPT, *answer, *PROMPT[5:30])
    second = submit(harness, turn, 12)
    harness.finish(second)
    assert tokens_of(harness, second) == greedy(loaded.network, turn, 12)
    assert cached(harness, second) == len(PROMPT) + 20


@pytest.mark.parametrize("architecture", ["llama", "qwen3_next"])
def test_the_same_prompt_at_once_is_computed_once(
    keeping: Callable[[str], tuple[Harness, Loaded]], architecture: str
) -> None:
    harness, loaded = keeping(architecture)
    answers = [submit(harness, PROMPT, 8) for _ in range(4)]
    harness.finish(*answers)
    expected = greedy(loaded.network, PROMPT, 8)
    assert [tokens_of(harness, each) for each in answers] == [expected] * 4
    assert [cached(harness, each) for each in answers] == [0, *[len(PROMPT) - 1] * 3]


def test_conversations_that_share_their_beginning_share_what_is_kept_of_it(
    keeping: Callable[[str], tuple[Harness, Loaded]],
) -> None:
    harness, loaded = keeping("llama")
    prompts = [(*PROMPT, *PROMPT[start : start + 20]) for start in (100, 150, 200)]
    turns = [submit(harness, prompt, 6) for prompt in prompts]
    harness.finish(*turns)
    for turn, prompt in zip(turns, prompts, strict=True):
        assert tokens_of(harness, turn) == greedy(loaded.network, prompt, 6)
    assert [cached(harness, turn) for turn in turns] == [0, len(PROMPT), len(PROMPT)]
    token_bytes = harness.footprint.token_bytes
    assert harness.keeper.nbytes == (len(PROMPT) + 3 * (20 + 6)) * token_bytes


def test_what_is_kept_goes_when_the_budget_shrinks_and_no_token_changes(
    keeping: Callable[[str], tuple[Harness, Loaded]],
) -> None:
    harness, loaded = keeping("llama")
    harness.finish(submit(harness, PROMPT, 4))
    assert harness.keeper.nbytes
    running = submit(harness, PROMPT[:50], 30)
    harness.turn(5)
    harness.inbox.put(Budget(kv_bytes=1 << 30, cache_bytes=1 << 26, short=True))
    again = submit(harness, PROMPT, 4)
    harness.turn()
    assert harness.keeper.nbytes == 0
    harness.finish(running, again)
    assert tokens_of(harness, running) == greedy(loaded.network, PROMPT[:50], 30)
    assert cached(harness, again) == 0
    assert harness.gauges.reading.kv_bytes == 0


def test_who_does_not_fit_waits_and_is_told_so_and_the_youngest_is_put_off(
    keeping: Callable[[str], tuple[Harness, Loaded]],
) -> None:
    harness, loaded = keeping("llama")
    both = harness.footprint.batch([600, 600]) + harness.footprint.copying([600, 600])
    harness.inbox.put(Budget(kv_bytes=both, cache_bytes=1 << 26))
    long = submit(harness, PROMPT, 700)
    harness.turn(4)
    younger = submit(harness, PROMPT[1:], 600)
    harness.turn(4)
    third = submit(harness, PROMPT[2:], 40)
    harness.finish(long, younger, third)
    queued = [each for step in harness.said if isinstance(step, Step) for each in step.queued]
    assert any("waits for memory" in each.reason for each in queued)
    assert harness.gauges.reading.preempted > 0
    for sequence, prompt, count in ((long, PROMPT, 700), (younger, PROMPT[1:], 600), (third, PROMPT[2:], 40)):
        assert tokens_of(harness, sequence) == greedy(loaded.network, prompt, count)


def test_keeping_a_prompt_takes_no_more_than_there_is_beside_who_runs(
    keeping: Callable[[str], tuple[Harness, Loaded]],
) -> None:
    harness, loaded = keeping("llama")
    size = harness.footprint.sequence(400) + harness.footprint.copying([400])
    harness.inbox.put(Budget(kv_bytes=size, cache_bytes=1 << 26))
    for prompt in (PROMPT[:150], (*PROMPT[150:], *PROMPT[:150]), PROMPT):
        needed = harness.footprint.batch([len(prompt)]) + harness.footprint.copying([len(prompt)])
        asked = submit(harness, prompt, 40)
        harness.turn()
        while not harness.over(asked):
            assert harness.keeper.nbytes + needed <= size
            harness.turn()
        assert tokens_of(harness, asked) == greedy(loaded.network, prompt, 40)
    assert harness.keeper.nbytes, "the last answer is kept: it has ended"


class Told:
    """A stepper that only notes what it is to keep and to let go."""

    def __init__(self) -> None:
        self.orders: list[StoreOrder] = []

    def store(self, orders: Sequence[StoreOrder]) -> None:
        self.orders += orders


def test_an_answer_is_kept_only_if_there_is_room_for_it_beside_the_sequence_that_it_is_of() -> None:
    footprint = Footprint(((Layer(token_bytes=1), 100),))
    running = [[Holding(500, 500, 1), Holding(500, 500, 2)]]
    taken = footprint.batch([500, 500]) + footprint.copying([500, 500])
    budget = Budget(kv_bytes=taken + 700 * footprint.token_bytes, cache_bytes=0)
    told = Told()
    keeper = Keeper(cast(Stepper, told), footprint, Index(True, footprint.token_bytes, 0), budget)
    keeper.relieve(running)
    first, second = tuple(range(500)), tuple(range(500, 1000))
    keeper.keep(1, first, (), ends=True)
    assert keeper.nbytes == 500 * footprint.token_bytes
    keeper.keep(2, second, (), ends=True)
    kinds = [type(order) for order in told.orders]
    assert kinds == [Keep, Forget, Keep], "the first goes before the second is copied"
    keeper.computes([[*running[0], Holding(500, 500, 3)]])
    keeper.keep(3, first, (), ends=True)
    assert keeper.known(first) == 0, "somebody more is computed: there is no room"


def test_who_was_put_off_goes_on_alone_when_the_budget_is_too_small_for_it_by_now(
    keeping: Callable[[str], tuple[Harness, Loaded]],
) -> None:
    harness, loaded = keeping("llama")
    harness.inbox.put(Budget(kv_bytes=1 << 30, cache_bytes=1 << 26))
    older, younger = submit(harness, PROMPT[:40], 60), submit(harness, PROMPT, 20)
    while not (harness.deltas(older) and harness.deltas(younger)):
        harness.turn()
    small = harness.footprint.sequence(200) + harness.footprint.copying([200])
    harness.inbox.put(Budget(kv_bytes=small, cache_bytes=1 << 26))
    later = submit(harness, PROMPT[:30], 5)
    new = submit(harness, PROMPT[1:], 5)
    harness.finish(older, younger, later, new)
    assert harness.gauges.reading.preempted
    assert tokens_of(harness, older) == greedy(loaded.network, PROMPT[:40], 60)
    assert tokens_of(harness, younger) == greedy(loaded.network, PROMPT, 20)
    assert tokens_of(harness, later) == greedy(loaded.network, PROMPT[:30], 5)
    assert harness.refusal(new) is not None


class Large(Guesser):
    """Has a draft model whose caches take so much, until it forgets."""

    def __init__(self, size: int) -> None:
        super().__init__(None)
        self.size = size

    @property
    def nbytes(self) -> int:
        return self.size

    def forget(self, uids: Sequence[int]) -> None:
        self.size = 0


def test_nobody_is_put_off_for_what_guesses_take(models: Models) -> None:
    loaded = load(models("llama"), None, lambda doing, progress: None)
    guesser = Large(0)
    harness = Harness(loaded, guesser=guesser)
    size = harness.footprint.batch([80, 80]) + harness.footprint.copying([80, 80])
    harness.inbox.put(Budget(kv_bytes=size, cache_bytes=1 << 26))
    both = [submit(harness, PROMPT[start : start + 60], 20) for start in range(2)]
    while not all(map(harness.deltas, both)):
        harness.turn()
    guesser.size = size // 2
    harness.turn()
    assert guesser.size == 0
    harness.finish(*both)
    assert harness.gauges.reading.preempted == 0


class Oracle(Guesser):
    """Knows the answers, and guesses right or wrong as a seed has it."""

    def __init__(self, answers: dict[tuple[int, ...], list[int]]) -> None:
        super().__init__(None)
        self._answers = answers
        self._said: dict[int, tuple[list[int], int]] = {}
        self._chance = random.Random(7)
        self.silent = False

    def begin(self, uid: int, tokens: Sequence[int]) -> None:
        if not self.silent:
            self._said[uid] = (self._answers[tuple(tokens)], 0)

    def took(self, uid: int, token: int) -> None:
        if not self.silent:
            answer, said = self._said[uid]
            self._said[uid] = (answer, said + 1)

    def guess(self, uids: Sequence[int], may: bool, left: Sequence[int]) -> Guess | None:
        if self.silent or not uids:
            return None
        rows = zip(uids, left, strict=True)
        guesses = tuple(self._guess(*self._said[uid])[: most - 1] for uid, most in rows) if may else ()
        return Guess(tuple(uids), guesses if any(guesses) else (), ahead=False)

    def _guess(self, answer: list[int], said: int) -> tuple[int, ...]:
        ahead = answer[said : said + self._chance.randrange(5)]
        return tuple(token if self._chance.random() < 0.7 else 21 for token in ahead)


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "gpt_oss", "deepseek_v3"])
def test_what_is_guessed_changes_no_token(models: Models, architecture: str) -> None:
    loaded = load(models(architecture), None, lambda doing, progress: None)
    prompts = [PROMPT[:60], PROMPT[:9], PROMPT[30:150]]
    answers = {prompt: greedy(loaded.network, prompt, 90) for prompt in prompts}
    oracle = Oracle(answers)
    harness = Harness(loaded, prefixes=True, guesser=oracle)
    sequences = []
    for prompt in prompts:
        sequences.append(submit(harness, prompt, 90))
        harness.turn(12)
    harness.finish(*sequences)
    assert [tokens_of(harness, each) for each in sequences] == list(answers.values())
    assert oracle.drafted > oracle.accepted > oracle.drafted / 4
    assert harness.gauges.reading.steps < 200
    oracle.silent = True
    turn = (*prompts[0], *answers[prompts[0]], 33)
    again = submit(harness, turn, 5)
    harness.finish(again)
    assert cached(harness, again) == len(turn) - 2, (
        "all that was computed: not the last token, for want of a next"
    )
    assert tokens_of(harness, again) == greedy(loaded.network, turn, 5)


def test_guesses_are_looked_up_in_a_text_that_repeats_itself(loaded: Loaded) -> None:
    harness = Harness(loaded, speculate=True)
    asked = harness.submit("one two three " * 40, stopping=Stopping(max_tokens=200, ignore_eos=True))
    harness.finish(asked)
    assert harness.guesser.drafted
    plain = Harness(loaded)
    same = plain.submit("one two three " * 40, stopping=Stopping(max_tokens=200, ignore_eos=True))
    plain.finish(same)
    assert tokens_of(harness, asked) == tokens_of(plain, same)


def test_a_batch_of_formats_is_held_to_them_beside_plain_answers(loaded: Loaded) -> None:
    harness = Harness(loaded, prefixes=True, speculate=True)
    plain = harness.submit("Hello there", sampling=GREEDY, stopping=Stopping(max_tokens=40))
    schema = '{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}'
    held = [
        harness.submit("Give me JSON", stopping=Stopping(max_tokens=60), format=JsonFormat(schema))
        for _ in range(3)
    ]
    harness.finish(plain, *held)
    alone = Harness(loaded)
    again = alone.submit("Hello there", sampling=GREEDY, stopping=Stopping(max_tokens=40))
    alone.finish(again)
    assert tokens_of(harness, plain) == tokens_of(alone, again)
    for each in held:
        assert harness.text(each).startswith("{")
