"""A model is placed when its weights and a useful context fit, and refused with the numbers when not."""

from pathlib import Path

from actors.placement_policy import Fit, fit
from bus.messages.base import ModelId
from bus.messages.facts import Memory, Pressure
from bus.messages.generation import Refusal, RefusalCode
from models.card import ModelCard
from models.store import StoredModel

GIB = 2**30
CARD = ModelCard("llama", context=8192, layers=32, kv_heads=8, head_dim=128, element_bytes=2, quantization="")


def model(size_bytes: int, card: ModelCard | None = CARD, problem: str = "") -> StoredModel:
    return StoredModel(ModelId("m"), Path("m"), size_bytes, 0.0, False, False, card, problem)


def memory(available_bytes: int, pressure: Pressure = Pressure.NORMAL) -> Memory:
    return Memory(total_bytes=16 * GIB, available_bytes=available_bytes, pressure=pressure)


def test_a_model_that_fits_gets_its_own_context() -> None:
    placed = fit(model(4 * GIB), memory(12 * GIB), promised_bytes=0, context=None)
    assert isinstance(placed, Fit)
    assert placed.context == 8192
    assert placed.needed_bytes > 4 * GIB + 8192 * CARD.kv_bytes_per_token


def test_a_person_may_ask_for_less_but_not_for_more_than_the_model_was_made_for() -> None:
    short = fit(model(4 * GIB), memory(12 * GIB), 0, context=1000)
    assert isinstance(short, Fit)
    assert short.context == 1000
    long = fit(model(4 * GIB), memory(12 * GIB), 0, context=1_000_000)
    assert isinstance(long, Fit)
    assert long.context == 8192


def test_scarce_memory_shortens_a_context_that_nobody_asked_for() -> None:
    placed = fit(model(4 * GIB), memory(int(6.7 * GIB)), 0, context=None)
    assert isinstance(placed, Fit)
    assert 512 <= placed.context < 8192


def test_scarce_memory_refuses_a_context_that_somebody_asked_for() -> None:
    refused = fit(model(4 * GIB), memory(int(6.7 * GIB)), 0, context=8192)
    assert isinstance(refused, Refusal)
    assert "8192 tokens" in refused.message


def test_a_model_that_is_too_large_is_refused_with_the_numbers_and_what_to_do() -> None:
    refused = fit(model(14 * GIB), memory(12 * GIB), 0, context=None)
    assert isinstance(refused, Refusal)
    assert refused.code is RefusalCode.DOES_NOT_FIT
    assert "16.1 GiB for its weights" in refused.message
    assert "quantised" in refused.message


def test_memory_that_is_promised_to_another_instance_is_not_given_twice() -> None:
    assert isinstance(fit(model(4 * GIB), memory(12 * GIB), promised_bytes=8 * GIB, context=None), Refusal)


def test_nothing_is_placed_on_a_machine_that_is_critically_short() -> None:
    refused = fit(model(GIB), memory(12 * GIB, Pressure.CRITICAL), 0, context=None)
    assert isinstance(refused, Refusal)
    assert refused.retry_after_s is not None


def test_a_broken_model_is_refused_with_what_is_wrong_with_it() -> None:
    refused = fit(model(GIB, card=None, problem="is not complete: a.partial …"), memory(12 * GIB), 0, None)
    assert isinstance(refused, Refusal)
    assert "not complete" in refused.message
