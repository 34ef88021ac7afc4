"""Whether and how a model fits on this node: pure reckoning over its card and the machine's memory."""

from dataclasses import dataclass

from bus.messages.facts import Memory, Pressure
from bus.messages.generation import Refusal, RefusalCode
from models.card import ModelCard
from models.store import StoredModel

HEADROOM = 0.10
"""Share of a machine's memory that is left to whatever else it does."""

WORKSPACE = 1.15
"""What loading and computing hold, as a factor of the weights' bytes."""

SMALLEST_CONTEXT = 512
"""A model that can't have even so many tokens of KV cache is not placed."""

DEFAULT_CONTEXT = 4096
"""For a model whose configuration does not say what it was made for."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A model fits, with this context."""

    context: int
    needed_bytes: int


def fit(model: StoredModel, memory: Memory, promised_bytes: int, context: int | None) -> Fit | Refusal:
    """Fit `model` into what is left of `memory`.

    `promised_bytes` is what instances that are placed but not yet loaded will still take. The context is
    the one asked for, or else the model's own, shortened to what the memory allows.
    """
    card = model.card
    if card is None:
        return Refusal(RefusalCode.DOES_NOT_FIT, f"model '{model.id}' can't be used: it {model.problem}")
    if memory.pressure is Pressure.CRITICAL:
        return Refusal(
            RefusalCode.DOES_NOT_FIT,
            f"model '{model.id}' is not placed: this machine is critically short of memory; close something",
            retry_after_s=10.0,
        )
    weights = int(model.size_bytes * WORKSPACE)
    room = memory.available_bytes - promised_bytes - int(memory.total_bytes * HEADROOM)
    longest = card.context or DEFAULT_CONTEXT
    wanted = min(context or longest, longest)
    affordable = max(0, room - weights) // max(1, card.kv_bytes_per_token)
    if affordable < min(wanted, SMALLEST_CONTEXT) or (context is not None and affordable < wanted):
        return _too_large(model, card, wanted, weights, room)
    granted = min(wanted, affordable)
    return Fit(granted, weights + granted * card.kv_bytes_per_token)


def _too_large(model: StoredModel, card: ModelCard, context: int, weights: int, room: int) -> Refusal:
    cache = context * card.kv_bytes_per_token
    return Refusal(
        RefusalCode.DOES_NOT_FIT,
        f"model '{model.id}' does not fit on this machine: it needs {_gib(weights)} for its weights and"
        f" {_gib(cache)} for a context of {context} tokens, and {_gib(max(0, room))} are free."
        " Free some memory, ask for a shorter context, or use a smaller or quantised model",
    )


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB"
