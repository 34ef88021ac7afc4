"""A model's shape: how many bytes each of its layers has, read from the headers of its safetensors files."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bus.messages.facts import Shape
from models.card import Json, ModelCard

_LAYER: Final = re.compile(r"^(.*?)(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")
_EXPERTS: Final = re.compile(r"\.(?:experts|switch_mlp|switch_glu)\.")

_LENGTH_BYTES: Final = 8
_LONGEST_HEADER: Final = 100_000_000
"""Bytes; the format's own limit."""

_EIGHT_BIT_FLOATS: Final = frozenset({"F8_E4M3", "F8_E5M2"})
"""mlx-lm turns them into 16 bits when it loads them."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor as a header lists it."""

    name: str
    size_bytes: int
    """In memory, once it is loaded."""


def read_shape(folder: Path, card: ModelCard) -> Shape:
    """The shape of the model in `folder`; ValueError says what is wrong and what to do."""
    # Others may lie beside them that mlx-lm does not read: the same weights for another program.
    files = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("*.safetensors"))
    return shape_of(card, [tensor for path in files for tensor in read_header(path)])


def read_header(path: Path) -> list[Tensor]:
    """What a safetensors file holds: 8 bytes of length, then JSON, then the tensors' bytes.

    ValueError when it is damaged or not all there.
    Source: https://github.com/huggingface/safetensors#format
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            text = file.read(length) if length <= _LONGEST_HEADER else b""
        size = path.stat().st_size
        header: Json = json.loads(text)
        if not isinstance(header, dict):
            raise ValueError("its header is no object")
        tensors = list(_tensors(header, size - _LENGTH_BYTES - length))
    except OSError as error:
        raise ValueError(f"{path.name} can't be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path.name} is damaged ({error}): copy it again") from error
    return tensors


def _tensors(header: Mapping[str, Json], data_bytes: int) -> Iterator[Tensor]:
    for name, entry in header.items():
        match entry:
            case {"dtype": str(dtype), "data_offsets": [int(begin), int(end)]} if 0 <= begin <= end:
                if end > data_bytes:
                    raise ValueError("it is cut short")
                yield Tensor(name, (end - begin) * (2 if dtype in _EIGHT_BIT_FLOATS else 1))
            case _ if name != "__metadata__":
                raise ValueError(f"{name} has no place in it")


def shape_of(card: ModelCard, tensors: list[Tensor]) -> Shape:
    """Share the tensors out to layers.

    Layers beyond those that the configuration counts (for predicting several tokens) are not loaded. Of
    several stacks of layers, as where a model can see, the largest is the one that counts.
    """
    stack = _largest_stack(tensors)
    layers, active = [0] * card.layers, [0.0] * card.layers
    other = 0
    for tensor in tensors:
        found = _LAYER.match(tensor.name)
        if found is None or found[1] != stack:
            other += tensor.size_bytes
        elif (layer := int(found[2])) < card.layers:
            layers[layer] += tensor.size_bytes
            share = card.active_experts if _EXPERTS.search(tensor.name) else 1.0
            active[layer] += tensor.size_bytes * share
    if not any(layers):  # under names that we don't know
        layers, other = [other // card.layers] * card.layers, other % card.layers
        active = [float(size) for size in layers]
    read = tuple(round(size) for size in active)
    return Shape(
        layer_bytes=tuple(layers),
        other_bytes=other,
        kv_bytes_per_token=card.kv_bytes_per_token,
        heads=card.heads,
        kv_heads=card.kv_heads,
        hidden=card.hidden,
        element_bytes=card.element_bytes,
        kv_divides=card.kv_divides,
        active_bytes=read if read != tuple(layers) else (),
        vocabulary=card.vocabulary,
    )


def _largest_stack(tensors: list[Tensor]) -> str:
    """What stands before `layers.N` in the names of most bytes."""
    sizes: Counter[str] = Counter()
    for tensor in tensors:
        if found := _LAYER.match(tensor.name):
            sizes[found[1]] += tensor.size_bytes
    return max(sizes, key=lambda stack: (sizes[stack], stack), default="")
