"""The conversation of a Runner with its engine process."""

from enum import StrEnum
from typing import TypeAlias

from bus.messages.base import Message, SequenceId, Value
from bus.messages.generation import Delta, Format, Prompt, Refusal, Sampling, Stopping
from bus.messages.placement import Interconnect

PROTOCOL = 2
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
    budget: "Budget | None" = None
    """None: as much as MLX gets."""
    kv_bits: int | None = None
    """The KV cache is kept with so many bits, 8 or 4; None: as it is computed."""
    prefixes: bool = True
    """Keep what was computed of prompts and answers for prompts that begin the same."""
    prefixes_path: str = ""
    """A folder in which that is kept across restarts; empty: it is not."""
    prefixes_disk_bytes: int = 8 * 2**30
    """What that folder may hold at most."""
    speculate: bool = True
    """Guess tokens ahead and check several at once, while that pays."""
    draft_path: str = ""
    """The folder of a small model that guesses; empty: guesses are looked up in the text so far."""


class Budget(Message, frozen=True):
    """What this engine may hold from now on; it gives back what is over that."""

    kv_bytes: int
    """KV cache on this rank: of running sequences and of kept prefixes together."""
    cache_bytes: int
    """Freed memory that MLX may keep for reuse."""
    short: bool = False
    """The machine is short of memory: keep nothing that can be computed again, and admit nothing new while
    anything runs."""


class Connect(Message, frozen=True):
    """Every rank listens: connect to them, and load."""

    hops: tuple[str, ...]
    """Endpoints in rank order."""
    rings: tuple[str, ...]
    """HOST:PORT of each rank's place in its stage's tensor group, in rank order; empty without groups."""
    devices: tuple[tuple[str, ...], ...] = ()
    """With jaccl: row r, column c is rank r's RDMA device that leads to rank c; empty where none does."""
    kv_bytes: tuple[int, ...] = ()
    """Each rank's budget for KV cache, as far as it is known; empty: only this rank's own matters."""
    kept: str = ""
    """The prefixes that every rank has on its disk under this name are taken up; empty: none are."""


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
    format: Format | None = None
    """What the answer is held to; None: nothing."""
    priority: int = 0
    """Who has more of it is prefilled earlier; 0 is what nobody asked to change."""
    embed: bool = False
    """Not an answer is wanted, but the prompt's embedding: one delta with a finish."""


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
    kept: str = ""
    """The name under which it has prefixes on its disk; empty: it has none."""


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
    eta_s: float | None = None
    """Until all of it is; None: not known yet."""
    cached: int = 0
    """How much of it was kept from before."""


class Queued(Value, frozen=True):
    """A sequence that waits, or waits again, before it is computed."""

    sequence: SequenceId
    place: int
    """How many are before it."""
    reason: str
    """What it waits for, for a person to read."""


class Step(Message, frozen=True):
    """What one step of the engine did."""

    number: int
    deltas: tuple[Delta, ...] = ()
    prefilled: tuple[Prefilled, ...] = ()
    queued: tuple[Queued, ...] = ()
    """Where the place or the reason has changed."""


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
    kv_limit_bytes: int = 0
    """What KV cache may take at most, here; 0: not bounded."""
    prefix_bytes: int = 0
    """Of kv_bytes: kept for prompts that begin the same."""
    prompt_tokens: int = 0
    """Of all prompts since the start."""
    cached_tokens: int = 0
    """Of those, what had not to be computed."""
    drafted_tokens: int = 0
    """Guessed ahead since the start."""
    accepted_tokens: int = 0
    """Of those, what was right."""
    preempted: int = 0
    """Sequences that were put off for want of memory since the start."""
    trails: tuple[int, ...] = ()
    """What begins of conversations are kept, as `bus.trail` spells them, latest last."""


ToEngine: TypeAlias = Load | Connect | Submit | Cancel | Budget | Shutdown
FromEngine: TypeAlias = Hello | Bound | PhaseChange | Accepted | Refused | Step | Beat
