"""What a request leaves open is decoded as the model's makers mean it."""

from pathlib import Path

import pytest

from bus.messages.generation import Sampling
from engine.steps.decoding import Decoding, habits, habits_from


def test_a_request_that_says_nothing_gets_the_models_habits() -> None:
    own = habits_from({"do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 20})
    assert own.settle(Sampling()) == Decoding(temperature=0.6, top_p=0.95, top_k=20)


def test_what_a_request_says_counts_even_if_it_is_zero() -> None:
    own = habits_from({"temperature": 0.6, "top_k": 20, "min_p": 0.1, "repetition_penalty": 1.2})
    wished = Sampling(temperature=0.0, top_k=0, min_p=0.0, repetition_penalty=1.0, seed=3)
    assert own.settle(wished) == Decoding(temperature=0.0, seed=3)


def test_a_model_that_is_not_to_be_sampled_is_greedy() -> None:
    assert habits_from({"do_sample": False, "temperature": 0.7}).temperature == 0.0


@pytest.mark.parametrize("content", ["{", "[]", '{"temperature": "hot"}', '{"temperature": true}', "\xff"])
def test_a_file_that_makes_no_sense_changes_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "generation_config.json").write_text(content, encoding="latin-1")
    assert habits(tmp_path) == Decoding()


def test_a_habit_without_a_meaning_is_none_and_no_clients_fault() -> None:
    assert (
        habits_from({"top_k": -1, "top_p": 3, "min_p": float("nan"), "repetition_penalty": 0}) == Decoding()
    )
    assert habits_from({"top_k": float("inf")}) == Decoding()


def test_without_a_file_it_is_plain(tmp_path: Path) -> None:
    assert habits(tmp_path) == Decoding()
