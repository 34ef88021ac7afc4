"""How tokens are chosen."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.sampling.penalties import Penalties
from engine.sampling.rows import BatchSampler
from engine.steps.decoding import Decoding
from engine.steps.row import Row, draw

PROBABILITIES = [0.4, 0.3, 0.15, 0.1, 0.05]
LOGPROBS = [math.log(probability) for probability in PROBABILITIES]


def sample(rows: Sequence[Row], logprobs: Sequence[Sequence[float]]) -> list[int]:
    tokens = BatchSampler()(mx.array([list(row) for row in logprobs]), rows)
    return [int(token) for token in tokens]


def frequencies(sampling: Decoding, draws: int = 4000) -> list[float]:
    """How often each of five tokens is chosen."""
    rows = [Row.of(sampling, seed, len(PROBABILITIES)) for seed in range(draws)]
    counted = Counter(sample(rows, [LOGPROBS] * draws))
    return [counted[token] / draws for token in range(len(PROBABILITIES))]


def test_temperature_zero_takes_the_most_likely_token() -> None:
    assert sample([Row(), Row()], [[-3.0, -0.1, -4.0], [-0.1, -3.0, -4.0]]) == [1, 0]


@pytest.mark.parametrize("temperature", [1e-320, 1e-40, 1e-6, 1e-5, 1e-3])
def test_a_temperature_next_to_zero_takes_the_most_likely_token_too(temperature: float) -> None:
    assert sample([Row(temperature=temperature)], [[-3.0, -0.1, -4.0]]) == [1]


def test_a_very_high_temperature_makes_all_tokens_alike() -> None:
    assert frequencies(Decoding(temperature=1e30)) == pytest.approx([0.2] * 5, abs=0.03)


def test_temperature_one_draws_from_the_models_own_distribution() -> None:
    assert frequencies(Decoding()) == pytest.approx(PROBABILITIES, abs=0.03)


def test_a_low_temperature_sharpens_and_a_high_one_flattens() -> None:
    squares = [probability**2 for probability in PROBABILITIES]
    roots = [probability**0.5 for probability in PROBABILITIES]
    assert frequencies(Decoding(temperature=0.5)) == pytest.approx(
        [each / sum(squares) for each in squares], abs=0.03
    )
    assert frequencies(Decoding(temperature=2.0)) == pytest.approx(
        [each / sum(roots) for each in roots], abs=0.03
    )


@pytest.mark.parametrize(
    ("sampling", "kept"),
    [
        (Decoding(top_k=1), 1),
        (Decoding(top_k=3), 3),
        (Decoding(top_k=5), 5),
        (Decoding(top_k=1 << 40), 5),
        (Decoding(top_p=0.6), 2),
        (Decoding(top_p=0.84), 3),
        (Decoding(top_p=0.0), 1),
        (Decoding(min_p=0.3), 3),
        (Decoding(min_p=1.0), 1),
        (Decoding(top_k=4, top_p=0.8, min_p=0.1), 3),
        (Decoding(top_k=2, top_p=0.99, min_p=0.01), 2),
    ],
)
def test_filters_leave_the_most_likely_tokens_in_their_proportions(sampling: Decoding, kept: int) -> None:
    mass = sum(PROBABILITIES[:kept])
    expected = [probability / mass for probability in PROBABILITIES[:kept]]
    assert frequencies(sampling) == pytest.approx(expected + [0.0] * (5 - kept), abs=0.035)


def test_filters_look_at_the_distribution_before_temperature() -> None:
    assert frequencies(Decoding(temperature=2.0, top_p=0.6))[2:] == [0.0, 0.0, 0.0]


def test_rows_of_a_batch_each_keep_to_their_own_settings() -> None:
    rows = [
        Row(),
        Row(temperature=1.0, top_k=1),
        Row(temperature=1.0, min_p=0.99),
        Row(temperature=1.0, top_p=0.01),
        Row(temperature=0.01),
    ]
    rising = LOGPROBS[::-1]
    for _ in range(20):
        assert sample(rows, [LOGPROBS, rising, LOGPROBS, rising, LOGPROBS]) == [0, 4, 0, 4, 0]


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, (1 << 64) - 1),
    st.integers(0, 6),
    st.sampled_from([Decoding(), Decoding(top_p=0.7), Decoding(top_k=3, temperature=0.8)]),
)
def test_a_seed_gives_the_same_tokens_whatever_else_is_in_the_batch(
    seed: int, place: int, sampling: Decoding
) -> None:
    alone = Row.of(sampling, seed, 5)
    expected = [sample([alone], [LOGPROBS])[0] for _ in range(8)]
    mine = Row.of(sampling, seed, 5)
    others = [Row.of(Decoding(top_k=2, temperature=1.5), other, 5) for other in range(6)]
    rows = [*others[:place], mine, *others[place:]]
    assert [sample(rows, [LOGPROBS] * 7)[place] for _ in range(8)] == expected


def test_a_row_that_is_taken_up_goes_on_with_the_draw_after_those_that_were_made() -> None:
    sampling = Decoding(seed=5)
    whole = Row.of(sampling, 0, 5)
    expected = [sample([whole], [LOGPROBS])[0] for _ in range(40)]
    for cut in range(40):
        rest = Row.of(sampling, 1, 5, drawn=cut)
        assert [sample([rest], [LOGPROBS])[0] for _ in range(cut, 40)] == expected[cut:]


def test_different_seeds_and_positions_draw_differently_and_evenly() -> None:
    draws = [draw(seed, position) for seed in range(50) for position in range(50)]
    assert len(set(draws)) == len(draws)
    assert all(0.0 <= each < 1.0 for each in draws)
    assert sum(draws) / len(draws) == pytest.approx(0.5, abs=0.02)
    assert min(draws) < 0.01
    assert max(draws) > 0.99


def test_a_token_that_is_ruled_out_is_never_drawn() -> None:
    logprobs = [-math.inf, math.log(0.5), -math.inf, math.log(0.5), -math.inf]
    rows = [Row(temperature=1.0, seed=seed) for seed in range(500)]
    assert set(sample(rows, [logprobs] * 500)) == {1, 3}


def test_a_batch_of_the_wrong_size_is_an_error_and_not_a_wrong_answer() -> None:
    with pytest.raises(RuntimeError, match="2 rows where 1 were expected"):
        sample([Row(temperature=1.0)], [LOGPROBS, LOGPROBS])


def penalised(
    sampling: Decoding, prompt: list[int], generated: list[int], logits: list[float], resumed: int = 0
) -> list[float]:
    """Logits after a sequence's penalties, step by step as the generator calls them."""
    penalties = Penalties(sampling, prompt + generated[:resumed], len(logits), resumed)
    result = mx.array([logits])
    for made in range(resumed, len(generated) + 1):
        result = penalties(mx.array(prompt + generated[:made]), mx.array([logits]))
    return [float(value) for value in result[0]]


def test_presence_and_frequency_count_generated_tokens_only() -> None:
    sampling = Decoding(presence_penalty=1.0, frequency_penalty=0.25)
    assert penalised(sampling, [0, 0], [1, 2, 1], [0.0, 0.0, 0.0, 0.0]) == [0.0, -1.5, -1.25, 0.0]


def test_the_repetition_penalty_counts_the_prompt_too_and_minds_the_sign() -> None:
    sampling = Decoding(repetition_penalty=2.0)
    assert penalised(sampling, [0], [1], [4.0, -4.0, 4.0]) == [2.0, -8.0, 4.0]


@pytest.mark.parametrize("resumed", range(6))
def test_tokens_that_another_engine_generated_count_as_generated(resumed: int) -> None:
    sampling = Decoding(presence_penalty=1.0, frequency_penalty=0.25, repetition_penalty=1.5)
    whole = penalised(sampling, [0, 4], [1, 2, 1, 4, 1], [1.0] * 6)
    assert penalised(sampling, [0, 4], [1, 2, 1, 4, 1], [1.0] * 6, resumed) == whole


def test_a_bias_is_added() -> None:
    assert penalised(Decoding(logit_bias={1: -100.0, 2: 5.0}), [0], [], [1.0, 1.0, 1.0]) == [1.0, -99.0, 6.0]


def test_default_settings_want_no_penalties() -> None:
    assert not Penalties.wanted(Decoding())
