"""The kernel stands on hooks of pykka, some of them private: a new pykka must still have them."""

from __future__ import annotations

import inspect

import pykka
import pytest
from pykka import _actor, _envelope, messages

from actors.kernel.actor import LoopActor, ThreadActor
from actors.kernel.hooks import Hooks

METHODS = [name for name, member in vars(Hooks).items() if inspect.isfunction(member)]


@pytest.mark.parametrize("name", METHODS)
def test_pykka_has_each_method_that_the_kernel_uses_or_overrides(name: str) -> None:
    ours, theirs = getattr(Hooks, name), getattr(pykka.Actor, name)
    assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)


@pytest.mark.parametrize("name", ["_create_actor_inbox", "_create_future"])
def test_pykka_has_each_factory_that_the_kernel_overrides(name: str) -> None:
    assert isinstance(inspect.getattr_static(pykka.Actor, name), staticmethod)


@pytest.mark.parametrize("name", Hooks.__annotations__)
def test_pykka_has_each_attribute_that_the_kernel_uses(name: str) -> None:
    assert name in pykka.Actor.__annotations__


def test_pykka_makes_the_inbox_before_the_ref_and_with_its_factory() -> None:
    source = inspect.getsource(pykka.Actor.__init__)
    assert source.index("self._create_actor_inbox()") < source.index("ActorRef(self)")


def test_pykka_acts_on_a_stop_by_calling_stop_and_on_the_rest_by_on_receive() -> None:
    source = inspect.getsource(_actor.Actor._handle_receive)
    assert "self._stop()" in source
    assert "self.on_receive(message)" in source
    assert issubclass(messages._ActorStop, tuple)


def test_pykka_s_future_keeps_its_result_under_its_condition() -> None:
    future: pykka.ThreadingFuture[int] = pykka.ThreadingFuture()
    assert future._result is None
    assert future._get_hook is None
    with future._condition:
        future.set(1)  # reentrant, as `Future.when_done` needs no more than
    assert future._result is not None


def test_an_envelope_carries_a_message_and_who_is_to_be_answered() -> None:
    assert _envelope.Envelope.__slots__ == ["message", "reply_to"]


@pytest.mark.parametrize("seat", [ThreadActor, LoopActor])
def test_both_seats_are_pykka_actors(seat: type[object]) -> None:
    assert issubclass(seat, pykka.Actor)
