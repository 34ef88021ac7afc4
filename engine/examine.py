"""How a model can be placed: `python -m engine.examine FOLDER` says as JSON what is not possible with it.

Forwards over a few tokens are traced and nothing of them computed, so that no weights are read.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

# Before anything that might look there: nothing of a model is looked for on the internet.
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import mlx.core as mx
import msgspec
from mlx.nn.layers.base import Module

from engine.border import Network
from engine.memory.caches import Cache
from engine.memory.quantised import why_not
from engine.sharding.layers import dress, forward_of

TOKENS: Final = 3


class Findings(msgspec.Struct, frozen=True):
    """For a person to read; empty where there is no problem."""

    pipeline_problem: str
    """Why its layers can't stand in several stages."""
    tensor_problem: str
    """Why its layers can't be divided themselves."""
    kv_quant_problem: str
    """Why its KV cache can't be quantised."""


class _Entangled(Exception):
    """Layers have more to do with each other than that each gets what the one before it returned."""


def examine(folder: Path) -> Findings:
    """Raises what mlx-lm raises for folders that it can't read."""
    network = Network(folder)
    # First: what finds out about stages leaves a network that can't be traced any more.
    quantisation = why_not(network)
    pipeline = pipeline_problem(network)
    # Ranks of a tensor group have a stage as well, though it be the only one.
    tensor = pipeline if network.can_shard else f"mlx-lm can't divide the layers of {network.architecture}"
    return Findings(pipeline, tensor, quantisation)


def pipeline_problem(network: Network) -> str:
    """Why this network's layers can't stand in several stages; empty: they can. It won't compute any more."""
    caches, layers = network.make_caches(), network.layers
    if len(caches) != len(layers):
        return f"it has {len(layers)} layers, but {len(caches)} of them keep a cache"
    trace = _Trace(caches)
    for index, layer in enumerate(layers):
        trace.watch(index, layer)
    try:
        network.forward(mx.zeros((1, TOKENS), mx.int32), caches)
        trace.check_all_called()
    except _Entangled as reason:
        return f"its layers exchange more than hidden states: {reason}"
    except Exception as error:
        return f"its forward can't be traced: {type(error).__name__}: {error}"
    return ""


class _Trace:
    """Watches what each layer is called with and what it returns."""

    def __init__(self, caches: Sequence[Cache]) -> None:
        self._caches = caches
        self._called = 0
        self._hidden: mx.array | None = None
        """What the layer before returned."""

    def watch(self, index: int, layer: Module) -> None:
        forward = forward_of(layer)

        def call(own: Module, *given: object, **named: object) -> mx.array:
            self._check_call(index, given, named)
            self._hidden = forward(own, *given, **named)
            self._check_hidden(index, self._hidden)
            return self._hidden

        dress(layer, call)

    def _check_call(self, index: int, given: Sequence[object], named: Mapping[str, object]) -> None:
        if index != self._called:
            raise _Entangled(f"layer {index} is called where layer {self._called} should be")
        self._called += 1
        hidden, *others = given or (None,)
        self._check_hidden(index, hidden)
        if index and hidden is not self._hidden:
            raise _Entangled(f"something is done to hidden states between layers {index - 1} and {index}")
        for other in (*others, *named.values()):
            if not self._is_harmless(index, other):
                raise _Entangled(f"layer {index} is given {_describe(other)}")

    def _check_hidden(self, index: int, hidden: object) -> None:
        if not isinstance(hidden, mx.array) or hidden.ndim != 3 or hidden.shape[:2] != (1, TOKENS):
            raise _Entangled(f"layer {index} takes or returns {_describe(hidden)}")

    def _is_harmless(self, index: int, given: object) -> bool:
        """Whether every stage has it of itself: its own cache, a mask, a plain value."""
        if given is None or isinstance(given, str | int | float) or given is self._caches[index]:
            return True
        if not isinstance(given, mx.array):
            return False
        return given.shape[-2:] == (TOKENS, TOKENS) or given.shape == (1, TOKENS)

    def check_all_called(self) -> None:
        if self._called != len(self._caches):
            raise _Entangled(f"only {self._called} of {len(self._caches)} layers are called")


def _describe(given: object) -> str:
    if isinstance(given, mx.array):
        return f"an array of shape {list(given.shape)}"
    return f"a {type(given).__name__}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 1 with the reason on standard error."""
    (folder,) = sys.argv[1:] if arguments is None else arguments
    try:
        findings = examine(Path(folder))
    except Exception as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    sys.stdout.write(msgspec.json.encode(findings).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
