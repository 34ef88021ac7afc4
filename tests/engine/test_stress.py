"""Random traffic, however a model is divided: its answers are the undivided one's, and nothing is left."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from tests.engine.stress.cases import Case, Division, Guessed
from tests.engine.stress.crew import run

SHORT = (
    Case("llama", Division.ONE, 4, Guessed.DRAFT),
    Case("gemma3", Division.PIPELINE_2, None, Guessed.DRAFT),
    Case("qwen3_next", Division.ONE, 8),
    Case("qwen3_moe", Division.TENSOR_2, None, Guessed.TEXT),
)
"""What every run covers. More: `python -m tests.engine.stress --help`."""
ARCHITECTURES = ("qwen3_5", "llama", "qwen3_moe", "deepseek_v3", "gpt_oss", "gemma3", "qwen3_next")
WITHOUT_SHARD = ("gemma3", "qwen3_next")
WITHOUT_BITS = ("deepseek_v3", "gpt_oss")
"""Their attention takes no quantised caches."""


def all_cases() -> list[Case]:
    """Every architecture, divided and quantised in every way that it can be."""
    shared_caches = [Case("gemma4", Division.ONE, None, guessed) for guessed in Guessed]
    return shared_caches + [
        Case(architecture, division, bits, Guessed.TEXT if bits == 8 else Guessed.DRAFT)
        for architecture, division, bits in product(ARCHITECTURES, Division, (None, 8, 4))
        if division.tensor == 1 or architecture not in WITHOUT_SHARD
        if bits is None or architecture not in WITHOUT_BITS
    ]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stress")


@pytest.fixture
def files_are_closed() -> Iterator[None]:
    """For tests that run: with all that others have loaded, it takes most of a second."""
    yield
    gc.collect()


@pytest.mark.usefixtures("files_are_closed")
@pytest.mark.parametrize("case", SHORT, ids=str)
def test_random_traffic_gets_the_answers_of_the_undivided_model(root: Path, case: Case) -> None:
    (ran,) = run(case, [2], 5, root)
    assert ran.tokens


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("long", "files_are_closed")
@pytest.mark.parametrize("case", all_cases(), ids=str)
def test_much_of_it_does(root: Path, case: Case) -> None:
    assert len(list(run(case, range(2), 12, root))) == 2
