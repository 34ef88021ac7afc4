"""The conversation of a Runner with its engine process."""

from enum import StrEnum
from typing import TypeAlias

from bus.messages.base import Message, SequenceId, Value
from bus.messages.generation import Delta, Prompt, Refusal, Sampling, Stopping

PROTOCOL = 1
"""Raised when two versions could no longer understand each other."""


class Phase(StrEnum):
    """The life of an instance, in order; `failed` can follow any of them."""

    WAITING = "waiting"
    DOWNLOADING = "downloading"
    CONNECTING = "connecting"
    LOADING = "loading"
    WARMING = "warming"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILED = "failed"


# -- from the Runner to the engine ---------------------------------------------------------------


class Load(Message, frozen=True):
    """Load this model and make ready."""

    path: str
    context: int | None = None
    """The longest prompt and answer together, in tokens; None: what the model was made for."""
    max_running: int = 64
    """Sequences that decode together; more wait their turn."""
    pace_s: float = 0.06
    """The gap between two tokens of a running stream that prefill of others may cause."""


class Submit(Message, frozen=True):
    """Generate one sequence. Answered by Accepted or Refused, then by deltas up to one with a finish."""

    sequence: SequenceId
    prompt: Prompt
    sampling: Sampling = Sampling()
    stopping: Stopping = Stopping()
    logprobs: int | None = None
    """None: no logprobs; 0: the chosen token's only; n: its n most likely rivals too."""
    echo: bool = False
    """The first delta is the prompt's own text."""


class Cancel(Message, frozen=True):
    """Stop computing these sequences and free what they hold; unknown ones are ignored."""

    sequences: tuple[SequenceId, ...]


class Shutdown(Message, frozen=True):
    """End the process."""


# -- from the engine to the Runner ---------------------------------------------------------------


class Hello(Message, frozen=True):
    """The engine process is there and listens."""

    pid: int
    protocol: int = PROTOCOL
    versions: dict[str, str] = {}


class PhaseChange(Message, frozen=True):
    """Where the engine is in its life; sent at each change and at each bit of progress."""

    phase: Phase
    reason: str
    """What it is doing or why it failed, for a person to read."""
    progress: float | None = None
    """0 to 1, where it can be known."""
    context: int | None = None
    """With `ready`: the longest prompt and answer together, in tokens."""


class Accepted(Message, frozen=True):
    """The sequence is in the queue: it fits."""

    sequence: SequenceId
    prompt_tokens: int


class Refused(Message, frozen=True):
    """The sequence will not be generated, or not be finished."""

    sequence: SequenceId
    refusal: Refusal


class Prefilled(Value, frozen=True):
    """How much of a sequence's prompt is computed."""

    sequence: SequenceId
    done: int
    total: int


class Step(Message, frozen=True):
    """What one step of the engine did."""

    number: int
    deltas: tuple[Delta, ...] = ()
    prefilled: tuple[Prefilled, ...] = ()


class Beat(Message, frozen=True):
    """Twice a second: the engine's pulse and what it holds."""

    steps: int
    """Steps since the start; a busy engine whose number stands still is stuck."""
    running: int = 0
    prefilling: int = 0
    waiting: int = 0
    kv_bytes: int = 0
    active_bytes: int = 0
    """All memory that MLX holds for arrays: weights, KV cache, activations."""
    cached_bytes: int = 0
    """Freed memory that MLX keeps for reuse."""
    tokens_per_s: float = 0.0
    """Decoded in the last second, all sequences together."""


ToEngine: TypeAlias = Load | Submit | Cancel | Shutdown
FromEngine: TypeAlias = Hello | PhaseChange | Accepted | Refused | Step | Beat
