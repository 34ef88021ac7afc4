"""Models with random weights: of every architecture, loadable, whole in float32, and the same every time."""

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import mlx_lm
import pytest

from scripts.guide.network import named_weights
from scripts.make_model import ARCHITECTURES, main, make_model

TEXT = 'Über 42 boxes in Paris: {"name": "add"}'


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_made_model_loads_and_generates_in_float32(architecture: str, tmp_path: Path) -> None:
    model, tokenizer = mlx_lm.load(str(make_model(architecture, tmp_path / architecture)))

    assert {weight.dtype for weight in named_weights(model).values()} == {mx.float32}
    prompt = tokenizer.encode(TEXT)
    assert tokenizer.decode(prompt) == TEXT
    steps = mlx_lm.stream_generate(model, tokenizer, prompt, max_tokens=4)
    assert [step.generation_tokens for step in steps][-1] == 4


def test_the_same_seed_makes_the_same_model_and_another_seed_another(tmp_path: Path) -> None:
    def weights(name: str, seed: int) -> bytes:
        return (make_model("llama", tmp_path / name, seed=seed) / "model.safetensors").read_bytes()

    assert weights("one", 1) == weights("same", 1)
    assert weights("one", 1) != weights("other", 2)


def test_the_command_line_makes_a_model_of_the_size_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["qwen3", str(tmp_path / "m"), "--layers", "6", "--hidden", "32", "--context", "16384"])

    model, _ = mlx_lm.load(str(tmp_path / "m"))
    assert len(model.layers) == 6
    assert capsys.readouterr().out.strip().endswith(" MB")


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: make_model("unknown", folder),
        lambda folder: make_model("llama", folder, hidden=30),
        lambda folder: make_model("llama", folder, heads=4, kv_heads=3),
        lambda folder: make_model("llama", folder, hidden=12),
    ],
)
def test_what_cannot_be_made_is_refused_before_anything_is_written(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"unknown architecture|multiple|even"):
        make(tmp_path / "m")
    assert not (tmp_path / "m").exists()
