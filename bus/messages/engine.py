"""The conversation of a Runner with its engine process."""

from enum import StrEnum
from typing import TypeAlias

from bus.messages.base import Message, SequenceId, Value
from bus.messages.generation import Delta, Prompt, Refusal, Sampling, Stopping
from bus.messages.placement import Interconnect

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


class Part(Value, frozen=True):
    """Which part of an instance a rank computes.

    Rank r is tensor rank r % tensor of stage r // tensor. Each rank listens on one socket. Rank 0 plans each
    step; the plan reaches its own stage's other ranks from rank 0, and every rank of a later stage, with the
    hidden states, from the rank of the same place in the stage before. Tensor rank 0 of the last stage
    samples and tells rank 0.
    """

    rank: int
    layers: tuple[tuple[int, int], ...]
    """First layer and end of each stage."""
    tensor: int = 1
    """Ranks per stage."""
    interconnect: Interconnect = Interconnect.RING
    listen: str = "127.0.0.1"
    """The address to listen on."""

    @property
    def ranks(self) -> int:
        return len(self.layers) * self.tensor

    @property
    def stage(self) -> int:
        return self.rank // self.tensor


class Load(Message, frozen=True):
    """Load this model, or a part of it, and make ready."""

    path: str
    context: int | None = None
    """The longest prompt and answer together, in tokens; None: what the model was made for."""
    max_running: int = 64
    """Sequences that decode together; more wait their turn."""
    pace_s: float = 0.06
    """The gap between two tokens of a running stream that prefill of others may cause."""
    part: Part | None = None
    """None: all of it. Else the engine answers with Bound, and loads once it is told to Connect."""
    hurry: bool = False
    """Somebody may be waiting in the middle of an answer: measure only what is needed to begin."""


class Connect(Message, frozen=True):
    """Every rank listens: connect to them, and load."""

    hops: tuple[str, ...]
    """Endpoints in rank order."""
    rings: tuple[str, ...]
    """HOST:PORT of each rank's place in its stage's tensor group, in rank order; empty without groups."""
    devices: tuple[tuple[str, ...], ...] = ()
    """With jaccl: row r, column c is rank r's RDMA device that leads to rank c; empty where none does."""


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
    resume: tuple[int, ...] = ()
    """Tokens that were generated and shown already: the first delta is the one after them."""


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


class Bound(Message, frozen=True):
    """This rank listens for others."""

    hop: str
    """The endpoint of its socket for plans and hidden states."""
    ring: str = ""
    """HOST:PORT kept free for its place in its stage's tensor group; empty where that has one rank."""


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
    waiting_for: str = ""
    """The other rank without which it can't go on; empty: it computes or rests."""


ToEngine: TypeAlias = Load | Connect | Submit | Cancel | Shutdown
FromEngine: TypeAlias = Hello | Bound | PhaseChange | Accepted | Refused | Step | Beat
