"""A soak's models: one that quotes itself, a small one that guesses for it, and one that takes its room."""

import json
import shutil
from pathlib import Path

import mlx.core as mx

from scripts.benchmark import models
from scripts.benchmark.models import Shape
from scripts.make_model import make_model
from scripts.soaking.errands import CONTEXT

SHAPE = Shape("llama-soak", layers=4, hidden=128, intermediate=352, context=CONTEXT)
CALM = 0.015
"""Times what each layer adds to a token: nine of ten tokens then follow from the one before them, so that
greedy text runs in circles, as answers do that quote, and look-up guesses two of three tokens right. The
tenth still hangs on all that came before it."""
DRAFT_LAYERS = 1
"""Of the model's four: nearly half of what it guesses is right."""
WEIGHTS = "model.safetensors"


def make(folder: Path) -> Path:
    """The model that is asked; returns its folder."""
    model = models.make(SHAPE, folder)
    weights = _read(model)
    for name, array in weights.items():
        if "o_proj" in name or "down_proj" in name:
            weights[name] = array * CALM
    _write(model, weights)
    return model


def make_draft(model: Path) -> Path:
    """A smaller one beside it, which says the same half of the time."""
    folder = model.with_name(f"{model.name}-draft")
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    config["num_hidden_layers"] = DRAFT_LAYERS
    (folder / "config.json").write_text(json.dumps(config))
    _write(folder, {name: array for name, array in _read(model).items() if _is_drafts(name)})
    return folder


def make_neighbour(folder: Path) -> Path:
    """A model for embeddings, to be placed beside the other one."""
    model = make_model("qwen3", folder / "neighbour")
    (model / "1_Pooling").mkdir()
    (model / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_lasttoken": True}))
    return model


def _is_drafts(name: str) -> bool:
    """Whether the draft model has these weights as well."""
    _, _, after = name.partition("layers.")
    return not after or int(after.split(".")[0]) < DRAFT_LAYERS


def _read(model: Path) -> dict[str, mx.array]:
    weights = mx.load(str(model / WEIGHTS))
    assert isinstance(weights, dict)
    return weights


def _write(model: Path, weights: dict[str, mx.array]) -> None:
    mx.eval(weights)
    mx.save_safetensors(str(model / WEIGHTS), weights, metadata={"format": "mlx"})
