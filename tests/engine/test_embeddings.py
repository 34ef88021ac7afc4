"""Embeddings are those of the model's own hidden states, pooled as its folder says, however it is divided."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy
import pytest
from numpy.typing import NDArray

from bus.messages.base import SequenceId
from bus.messages.engine import Submit
from bus.messages.generation import RefusalCode, Stopping, TokenPrompt
from engine.border import Network
from scripts.make_model import make_model
from tests.engine.process import EngineUnderTest, engine_process
from tests.engine.ranks import ranks

TEXTS = [
    tuple((7 * index + start) % 500 + 20 for index in range(length))
    for start, length in ((1, 1), (2, 9), (3, 300), (4, 40))
]
MODES = {
    "mean": "pooling_mode_mean_tokens",
    "last": "pooling_mode_lasttoken",
    "cls": "pooling_mode_cls_token",
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model("qwen3", tmp_path_factory.mktemp("embeddings") / "qwen3", layers=4)


@pytest.fixture
def made_for(plain: Path, tmp_path: Path) -> Callable[[str], Path]:
    def make(mode: str) -> Path:
        folder = tmp_path / mode
        shutil.copytree(plain, folder)
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({MODES[mode]: True}))
        modules = [
            {"idx": 0, "type": "sentence_transformers.models.Transformer", "path": ""},
            {"idx": 1, "type": "sentence_transformers.models.Pooling", "path": "1_Pooling"},
            {"idx": 2, "type": "sentence_transformers.models.Normalize", "path": "2_Normalize"},
        ]
        (folder / "modules.json").write_text(json.dumps(modules))
        return folder

    return make


def expected(folder: Path, text: tuple[int, ...], mode: str) -> NDArray[numpy.float32]:
    network = Network(folder)
    hidden = network.hidden(mx.array([list(text)]), network.make_caches())[0]
    states = numpy.asarray(hidden.astype(mx.float32))
    vector = {"mean": states.mean(axis=0), "last": states[-1], "cls": states[0]}[mode]
    normalised: NDArray[numpy.float32] = vector / numpy.linalg.norm(vector)
    return normalised


async def embed(engine: EngineUnderTest, texts: list[tuple[int, ...]]) -> list[NDArray[numpy.float32]]:
    sequences = [SequenceId(f"text-{number}") for number in range(len(texts))]
    for sequence, text in zip(sequences, texts, strict=True):
        await engine.peer.command(Submit(sequence, TokenPrompt(text), embed=True), 30.0)
    vectors = []
    for sequence in sequences:
        (delta,) = (await engine.finished(sequence)).deltas
        vectors.append(numpy.frombuffer(delta.embedding, "<f4"))
    return vectors


@pytest.mark.parametrize("mode", MODES)
async def test_texts_are_embedded_in_batches_beside_answers(
    made_for: Callable[[str], Path], mode: str
) -> None:
    folder = made_for(mode)
    async with engine_process() as engine:
        await engine.load(folder)
        answer = await engine.submit(TokenPrompt(TEXTS[1]), stopping=Stopping(max_tokens=60, ignore_eos=True))
        for vector, text in zip(await embed(engine, TEXTS), TEXTS, strict=True):
            numpy.testing.assert_allclose(vector, expected(folder, text, mode), atol=2e-5)
        await engine.finished(answer)


async def test_a_pipeline_embeds_as_one_process_does(made_for: Callable[[str], Path]) -> None:
    folder = made_for("mean")
    async with ranks(((0, 2), (2, 4))) as crew:
        await crew.load(folder)
        for vector, text in zip(await embed(crew.first, TEXTS), TEXTS, strict=True):
            numpy.testing.assert_allclose(vector, expected(folder, text, "mean"), atol=2e-5)


async def test_a_model_that_was_not_made_for_embeddings_says_so(plain: Path) -> None:
    async with engine_process() as engine:
        await engine.load(plain)
        sequence = SequenceId("text")
        await engine.peer.command(Submit(sequence, TokenPrompt(TEXTS[1]), embed=True), 30.0)
        await engine.until(lambda: engine.answer(sequence).over)
        refused = engine.answer(sequence).refused
        assert refused is not None
        assert (refused.refusal.code, refused.refusal.param) == (RefusalCode.INVALID, "model")
