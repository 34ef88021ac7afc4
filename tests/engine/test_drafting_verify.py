"""Tokens come faster with guesses, and are the same ones."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import cast

import mlx.core as mx
import pytest
from mlx_lm.models.cache import BatchKVCache

from engine.border import Network
from engine.drafting.verify import SLACK, Verdict, can_forget, forget, verify
from engine.memory.caches import Cache, joined, merged
from engine.memory.quantised import quantise
from scripts.make_model import make_model
from tests.engine.stress.judging import Roundings

PROMPTS = [[(7 * index + row * index**2) % 500 + 20 for index in range(9 + 11 * row)] for row in range(4)]

Guesser = Callable[[list[int]], list[int]]
"""From what really comes next to guesses."""


# -- tokens --------------------------------------------------------------------------------------


def test_guesses_stand_as_long_as_they_are_what_was_chosen() -> None:
    assert verify([(5, 6, 7)], [(5, 6, 8, 9)]) == (Verdict((5, 6, 8), 1),)
    assert verify([(5, 6, 7)], [(5, 6, 7, 9)]) == (Verdict((5, 6, 7, 9), 0),)
    assert verify([(5, 6, 7)], [(4, 6, 7, 9)]) == (Verdict((4,), 3),)


def test_rows_with_fewer_guesses_or_none_forget_their_padding() -> None:
    verdicts = verify([(5, 6), (), (8,)], [(5, 6, 7), (1, 2, 3), (8, 9, 3)])
    assert verdicts == (Verdict((5, 6, 7), 0), Verdict((1,), 2), Verdict((8, 9), 1))


def test_a_step_without_guesses_forgets_nothing() -> None:
    assert verify([(), ()], [(4,), (5,)]) == (Verdict((4,), 0), Verdict((5,), 0))


# -- caches --------------------------------------------------------------------------------------


@pytest.fixture(autouse=True, scope="module")
def roundings_are_forgiven() -> Iterator[None]:
    with Roundings().forgiven():
        yield


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Network]:
    root: Path = tmp_path_factory.mktemp("drafting")

    @functools.cache
    def network(architecture: str) -> Network:
        if architecture == "wide":  # heads that can be quantised
            network = Network(make_model("llama", root / architecture, layers=2, hidden=128))
        else:
            network = Network(make_model(architecture, root / architecture, layers=2))
        # Weights that nobody asks for would leave the file open.
        mx.eval(network.model.parameters())
        return network

    return network


def integers(array: mx.array) -> list[list[int]]:
    return cast("list[list[int]]", array.tolist())


def prefilled(network: Network, prompt: Sequence[int], bits: int = 0) -> list[Cache]:
    caches = network.make_caches()
    if bits:
        caches = quantise(caches, bits)
    network.forward(mx.array([prompt[:-1]]), caches)
    return caches


@functools.cache
def truth_of(network: Network, count: int, bits: int) -> list[list[int]]:
    """What plain greedy decoding makes of each prompt, and some more tokens of it."""
    return [_alone(network, prompt, count + 6, bits) for prompt in PROMPTS]


def _alone(network: Network, prompt: Sequence[int], count: int, bits: int) -> list[int]:
    caches, tokens = prefilled(network, prompt, bits), [prompt[-1]]
    while len(tokens) <= count:
        logits = network.forward(mx.array([tokens[-1:]]), caches)
        tokens += integers(mx.argmax(logits, axis=-1))[0]
    return tokens[1:]


class Speculation:
    """Rows that decode together, each with its guesses."""

    def __init__(self, network: Network, bits: int = 0) -> None:
        self._network = network
        self._bits = bits
        self._caches: list[Cache] = []
        self.rows: list[int] = []
        self.made: dict[int, list[int]] = {}
        self.steps = 0

    def join(self, row: int) -> None:
        self._caches = joined(self._caches, merged([prefilled(self._network, PROMPTS[row], self._bits)]))
        self.rows.append(row)
        self.made[row] = []

    def leave(self, row: int) -> None:
        keep = [place for place, each in enumerate(self.rows) if each != row]
        self.rows.remove(row)
        if not keep:
            self._caches = []
        for cache in self._caches:
            cache.filter(keep)

    def step(self, guesses: Sequence[Sequence[int]]) -> None:
        width = 1 + max(len(each) for each in guesses)
        last = [(PROMPTS[row] + self.made[row])[-1] for row in self.rows]
        given = [[token, *guess] for token, guess in zip(last, guesses, strict=True)]
        padded = mx.array([each + [0] * (width - len(each)) for each in given])
        chosen = integers(mx.argmax(self._network.forward(padded, self._caches), axis=-1))
        verdicts = verify(guesses, chosen)
        forget(self._caches, [verdict.forget for verdict in verdicts])
        for row, verdict in zip(self.rows, verdicts, strict=True):
            self.made[row] += verdict.tokens
        self.steps += 1

    @property
    def positions(self) -> int:
        return max(int(cast(BatchKVCache, cache).size()) for cache in self._caches)


def right(ahead: list[int]) -> list[int]:
    return ahead


def wrong(ahead: list[int]) -> list[int]:
    return [token + 1 for token in ahead]


def mixed(seed: int) -> Guesser:
    """Right up to anywhere, of any length."""
    draws = random.Random(seed)

    def guess(ahead: list[int]) -> list[int]:
        ahead = ahead[: draws.randrange(len(ahead) + 1)]
        at = draws.randrange(len(ahead) + 1)
        return ahead[:at] + wrong(ahead[at:])

    return guess


@pytest.mark.parametrize(
    ("architecture", "guesser", "count", "bits"),
    [
        ("llama", right, 200, 0),
        ("llama", wrong, 200, 0),
        ("llama", mixed(1), 200, 0),
        ("qwen3", mixed(2), 100, 0),
        ("gpt_oss", mixed(3), 45, 0),
        ("gemma3", mixed(4), 45, 0),
        ("deepseek_v3", mixed(5), 45, 0),
        ("wide", mixed(6), 45, 8),
        ("wide", mixed(7), 45, 4),
    ],
    ids=[
        "llama-right",
        "llama-wrong",
        "llama",
        "qwen3",
        "gpt_oss",
        "gemma3",
        "deepseek_v3",
        "8-bits",
        "4-bits",
    ],
)
def test_tokens_are_those_of_plain_greedy_decoding_while_rows_come_and_go(
    networks: Callable[[str], Network], architecture: str, guesser: Guesser, count: int, bits: int
) -> None:
    network = networks(architecture)
    truth = truth_of(network, count, bits)
    batch = Speculation(network, bits)
    assert can_forget(network.make_caches())
    for row in (0, 1, 2):
        batch.join(row)
    while batch.rows:
        if batch.steps == 9:
            batch.join(3)
        for row in list(batch.rows):
            if len(batch.made[row]) >= (count // 3 if row == 1 else count):
                batch.leave(row)
        if batch.rows:
            at = [len(batch.made[row]) for row in batch.rows]
            ahead = [truth[row][begin : begin + 4] for row, begin in zip(batch.rows, at, strict=True)]
            batch.step([guesser(each) for each in ahead])
    assert batch.made == {row: truth[row][: len(batch.made[row])] for row in range(4)}


def test_rows_that_take_turns_in_being_ahead_do_not_grow_for_ever(
    networks: Callable[[str], Network],
) -> None:
    network = networks("llama")
    truth = truth_of(network, 200, 0)
    batch = Speculation(network)
    batch.join(0)
    batch.join(1)
    turn = 0
    while all(len(batch.made[row]) < 200 for row in (0, 1)):
        at = [len(batch.made[row]) for row in (0, 1)]
        ahead = [truth[row][begin : begin + 4] for row, begin in zip(batch.rows, at, strict=True)]
        ahead[turn % 2] = wrong(ahead[turn % 2])
        turn += 1
        batch.step(ahead)
    longest = max(len(PROMPTS[row]) + len(batch.made[row]) for row in (0, 1))
    assert batch.positions <= longest + SLACK + 5
    assert turn > SLACK


def test_states_can_not_be_taken_back(networks: Callable[[str], Network]) -> None:
    assert not can_forget(networks("qwen3_next").make_caches())
