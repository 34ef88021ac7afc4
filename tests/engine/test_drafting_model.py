"""A draft model guesses what it would say itself, however its sequences come, go and turn out."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import mlx.core as mx
import pytest

from engine.border import Network, active_bytes
from engine.drafting.drafter import SURE, Drafter
from engine.drafting.model import BEHIND, DraftModel, load_draft, mismatch, supports
from engine.loader import Loaded, LoadFailed
from engine.text.tokenizer import Tokenizer
from scripts.make_model import make_model

PROMPTS = [[(7 * index + row * index**2) % 500 + 20 for index in range(9 + 7 * row)] for row in range(4)]
WIDTH = 4


@pytest.fixture(scope="module", params=["qwen3", "gemma3"])
def network(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Network:
    """Models with a sliding window of 16 tokens and without."""
    network = Network(make_model(request.param, tmp_path_factory.mktemp("draft") / "model", layers=2))
    mx.eval(network.model.parameters())
    return network


@pytest.fixture(scope="module")
def says(network: Network) -> Callable[[Sequence[int]], tuple[int, ...]]:
    """What the draft model says after these tokens, computed from the first one on."""

    @functools.cache
    def after(tokens: tuple[int, ...]) -> tuple[int, ...]:
        caches, said, new = network.make_caches(), list[int](), list(tokens)
        while len(said) < WIDTH:
            logits = network.forward(mx.array([new]), caches)
            new = [cast(int, mx.argmax(logits[0, -1, : network.config["vocab_size"]]).item())]
            said += new
        return tuple(said)

    return lambda tokens: after(tuple(tokens))


def drafting(network: Network, prefilled_at_once: int = 256) -> DraftModel:
    return DraftModel(network, int(network.config["vocab_size"]), prefilled_at_once)


def test_it_guesses_what_it_would_say_whatever_was_true_of_its_guesses(
    network: Network, says: Callable[[Sequence[int]], tuple[int, ...]]
) -> None:
    draws = random.Random(2)
    model = drafting(network)
    tokens = {uid: list(prompt) for uid, prompt in enumerate(PROMPTS)}
    for uid in (0, 1, 2):
        model.begin(uid, tokens[uid])
    uids = [0, 1, 2]
    for step in range(14):
        if step == 4:
            model.begin(3, tokens[3])
            uids.append(3)
        if step == 8:
            model.forget([1])
            uids.remove(1)
        asked = uids if step % 5 else uids[:1]
        guesses = model.propose(asked, WIDTH)
        assert guesses == {uid: says(tokens[uid]) for uid in asked}
        for uid in uids:
            right = draws.randrange(WIDTH + 1)
            took = [*says(tokens[uid])[:right], draws.randrange(20, 500)]
            tokens[uid] += took
            model.took(uid, took)


def test_a_long_prompt_is_computed_in_slices_while_others_are_guessed_for(
    network: Network, says: Callable[[Sequence[int]], tuple[int, ...]]
) -> None:
    model = drafting(network, prefilled_at_once=40)
    long = [(3 * index) % 400 + 20 for index in range(160)]
    model.begin(1, PROMPTS[1])
    model.begin(2, long)
    for _ in range(4):
        assert model.propose([1, 2], WIDTH) == {1: says(PROMPTS[1])}
    assert model.propose([1, 2], WIDTH) == {1: says(PROMPTS[1]), 2: says(long)}


def test_who_was_not_asked_about_for_long_catches_up_first(
    network: Network, says: Callable[[Sequence[int]], tuple[int, ...]]
) -> None:
    model = drafting(network, prefilled_at_once=BEHIND)
    tokens = [list(PROMPTS[0]), list(PROMPTS[1])]
    model.begin(0, tokens[0])
    model.begin(1, tokens[1])
    model.propose([0, 1], WIDTH)
    more = [(5 * index) % 300 + 20 for index in range(2 * BEHIND + 5)]
    tokens[1] += more
    model.took(1, more)
    for _ in range(2):
        assert model.propose([0, 1], WIDTH) == {0: says(tokens[0])}
    assert model.propose([0, 1], WIDTH) == {0: says(tokens[0]), 1: says(tokens[1])}


def test_nothing_is_left_of_who_is_forgotten(network: Network) -> None:
    model = drafting(network)
    model.begin(0, PROMPTS[0])
    model.begin(1, PROMPTS[1])
    model.propose([0, 1], WIDTH)
    assert model.nbytes > 0
    model.forget([0, 1, 7])
    assert model.nbytes == 0
    assert model.propose([], WIDTH) == {}


def test_the_memory_of_who_leaves_is_back_before_anybody_is_guessed_for_again(network: Network) -> None:
    model = drafting(network)
    for uid in range(4):
        model.begin(uid, [(uid + 3 * index) % 400 + 20 for index in range(200)])
    while len(model.propose(range(4), WIDTH)) < 4:
        pass
    held, active = model.nbytes, active_bytes()
    model.forget([0, 1, 2])
    assert model.nbytes <= held / 4
    assert active - active_bytes() > held / 2


def test_a_model_with_a_state_can_not_draft(tmp_path: Path, network: Network, loaded: Loaded) -> None:
    assert supports(network) == ""
    folder = make_model("qwen3_next", tmp_path / "state", layers=2)
    with pytest.raises(LoadFailed, match="ArraysCache"):
        load_draft(folder, loaded.tokenizer)


def test_a_draft_model_has_the_same_tokens(loaded: Loaded, models: Callable[[str], Path]) -> None:
    class Changed(Tokenizer):
        def pieces(self) -> list[str]:
            pieces = super().pieces()
            return [*pieces[:300], "something else", *pieces[301:]]

    class Longer(Tokenizer):
        def pieces(self) -> list[str]:
            return [*super().pieces(), "one more"]

    folder, config = models("llama"), loaded.network.config
    draft = load_draft(folder, loaded.tokenizer)
    draft.begin(0, PROMPTS[1])
    assert len(draft.propose([0], WIDTH)[0]) == WIDTH
    with pytest.raises(LoadFailed, match="1 tokens of the draft model are others, the first one 300"):
        load_draft(folder, Changed(folder, config))
    assert "choose one of its family" in mismatch(loaded.tokenizer, Longer(folder, config))


# -- with look-up --------------------------------------------------------------------------------


def test_without_a_draft_model_only_repetitions_are_guessed() -> None:
    drafter = Drafter()
    drafter.begin(1, [5, 6, 7, 8, 5, 6])
    drafter.begin(2, [5, 6, 7, 8])
    assert drafter.propose([1, 2, 3], 2) == ((7, 8), (), ())
    assert drafter.propose([1, 2], 0) == ((), ())
    drafter.took(2, [5, 6])
    assert drafter.propose([2, 1], 3) == ((7, 8, 5), (7, 8, 5))
    drafter.forget([1, 9])
    assert drafter.propose([1], 3) == ((),)


def test_a_long_repetition_is_believed_and_a_draft_model_else(
    network: Network, says: Callable[[Sequence[int]], tuple[int, ...]]
) -> None:
    drafter = Drafter(drafting(network))
    long = [*range(40, 40 + SURE), 99, *range(40, 40 + SURE)]
    short = [40, 41, 99, 40, 41]
    drafter.begin(1, long)
    drafter.begin(2, short)
    assert drafter.propose([1, 2], WIDTH) == ((99, 40, 41, 42), says(short))
    drafter.took(1, [300, 301])
    drafter.took(2, [300])
    assert drafter.propose([1, 2], WIDTH) == (says([*long, 300, 301]), says([*short, 300]))
    drafter.forget([1, 2])
    assert drafter.nbytes == 0
