"""What a model writes around its reasoning and around its tool calls."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Thinking:
    """The tokens around a model's reasoning."""

    start: tuple[int, ...]
    end: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CallMarkers:
    """How a model writes tool calls: the name of mlx-lm's parser that reads them, and what stands around."""

    parser: str
    start: str
    end: str
