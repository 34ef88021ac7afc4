"""An answer does not end before it has as many tokens as were asked for, however it is computed."""

from __future__ import annotations

import gc
from typing import cast

import mlx.core as mx
import pytest

from bus.messages.base import SequenceId
from bus.messages.engine import Submit
from bus.messages.generation import (
    Finish,
    FinishReason,
    RegexFormat,
    Sampling,
    Stopping,
    TextPrompt,
)
from engine.loader import Loaded
from engine.sampling.least import Least
from engine.text.stop import StopMatcher
from tests.engine.conftest import Models
from tests.engine.harness import GREEDY, Harness
from tests.engine.staged import staged

WORDS = "one two three " * 20
END = 3
NEVER = float("-inf")


def allowed(
    least: Least, uids: tuple[int, ...], width: int = 1, logits: mx.array | None = None
) -> list[bool]:
    """Whether each place may end its answer."""
    given = mx.zeros((len(uids) * width, 5)) if logits is None else logits
    left = least.apply(given, uids, width)
    return [value != NEVER for value in cast("list[float]", left[:, END].tolist())]


def test_only_those_who_have_too_few_tokens_may_not_end() -> None:
    least = Least({END})
    least.learn(1, 2)
    least.learn(2, 0)
    assert allowed(least, (1, 2, 7)) == [False, True, True]
    least.take(1)
    assert allowed(least, (2, 1)) == [True, False]
    least.take(1)
    assert allowed(least, (1,)) == [True]


def test_each_guessed_place_has_one_token_more_before_it() -> None:
    least = Least({END})
    least.learn(1, 2)
    assert allowed(least, (1, 2), width=3) == [False, False, True, True, True, True]


def test_who_is_forgotten_may_end() -> None:
    least = Least({END})
    least.learn(1, 5)
    least.forget(1)
    assert allowed(least, (1,)) == [True]


def test_where_nothing_else_is_left_an_answer_ends_all_the_same() -> None:
    least = Least({END})
    least.learn(1, 5)
    only_end = mx.array([[NEVER, NEVER, NEVER, 0.0, NEVER]])
    assert allowed(least, (1,), logits=only_end) == [True]


def test_a_stop_string_counts_if_it_is_complete_late_enough() -> None:
    stops = StopMatcher(["ab"])
    assert stops.feed("xaba", may_stop=False).text == "xab"
    passage = stops.feed("bc")
    assert (passage.text, passage.stop) == ("", "ab")


# -- in the loop ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def harness(loaded: Loaded) -> Harness:
    return Harness(loaded)


def ids(harness: Harness, sequence: SequenceId) -> list[int]:
    return [token for delta in harness.deltas(sequence) for token in delta.ids]


def finish_of(harness: Harness, sequence: SequenceId) -> Finish:
    harness.finish(sequence)
    finish = harness.deltas(sequence)[-1].finish
    assert finish is not None
    return finish


def eager(loaded: Loaded) -> Sampling:
    """It ends wherever it may."""
    return Sampling(temperature=0.0, logit_bias=dict.fromkeys(loaded.tokenizer.eos, 1000.0))


def test_an_answer_that_would_end_gets_its_tokens_first(harness: Harness, loaded: Loaded) -> None:
    for least, asked in [
        (least, harness.submit(WORDS, eager(loaded), Stopping(min_tokens=least))) for least in (0, 1, 5)
    ]:
        finish = finish_of(harness, asked)
        assert (finish.reason, finish.completion_tokens) == (FinishReason.STOP, least + 1)
        assert not loaded.tokenizer.eos & set(ids(harness, asked)[:-1])


def test_the_most_tokens_end_an_answer_before_the_least(harness: Harness, loaded: Loaded) -> None:
    finish = finish_of(harness, harness.submit(WORDS, eager(loaded), Stopping(max_tokens=4, min_tokens=9)))
    assert (finish.reason, finish.completion_tokens) == (FinishReason.LENGTH, 4)


def test_a_stop_string_is_text_until_there_are_tokens_enough(harness: Harness) -> None:
    (text,) = harness.run(harness.submit(WORDS, stopping=Stopping(max_tokens=40, ignore_eos=True)))
    stop = text[9:12]
    patient = harness.submit(
        WORDS, stopping=Stopping(max_tokens=40, stop=(stop,), ignore_eos=True, min_tokens=40)
    )
    assert harness.run(patient) == [text]


def test_an_engine_that_goes_on_for_another_counts_what_that_one_had(
    harness: Harness, loaded: Loaded
) -> None:
    whole = harness.submit(WORDS, eager(loaded), Stopping(min_tokens=6))
    harness.finish(whole)
    tokens = ids(harness, whole)
    again = SequenceId("again")
    stopping = Stopping(min_tokens=6)
    resumed = Submit(again, TextPrompt(WORDS), eager(loaded), stopping, resume=tuple(tokens[:4]))
    harness.inbox.put(harness.intake.accept(resumed))
    assert finish_of(harness, again).completion_tokens == 7
    assert tokens[:4] + ids(harness, again) == tokens


def test_it_holds_on_the_last_of_several_ranks(models: Models, loaded: Loaded) -> None:
    folder = models("llama")
    harness = Harness(loaded, stepper_of=lambda gauges, equipment: staged(folder, 2, 2, gauges, equipment)[0])
    finish = finish_of(harness, harness.submit(WORDS, eager(loaded), Stopping(min_tokens=5)))
    assert (finish.reason, finish.completion_tokens) == (FinishReason.STOP, 6)
    del harness
    gc.collect()  # its model's files


def test_guesses_change_nothing(harness: Harness, loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    free = harness.submit(WORDS, stopping=Stopping(max_tokens=60, ignore_eos=True))
    harness.finish(free)
    often = ids(harness, free)[-1]
    monkeypatch.setattr(type(loaded.tokenizer), "eos", frozenset({often}))
    answers = []
    for speculate in (False, True):
        other = Harness(loaded, speculate=speculate)
        asked = other.submit(WORDS, stopping=Stopping(max_tokens=60, min_tokens=40))
        other.finish(asked)
        answers.append(ids(other, asked))
        assert bool(other.guesser.drafted) == speculate
    assert answers[0] == answers[1]
    assert often not in answers[0][:40]
    assert len(answers[0]) >= 40


def test_what_an_answer_is_held_to_goes_before(harness: Harness) -> None:
    asked = harness.submit(WORDS, GREEDY, Stopping(min_tokens=50), format=RegexFormat("yes|no"))
    finish = finish_of(harness, asked)
    assert finish.reason is FinishReason.STOP
    assert harness.text(asked) in ("yes", "no")
