"""What an envoy says is numbered: what was lost on the way shows, at the next word or at an audit."""

from actors.relays import Relays
from bus.messages.base import InstanceId
from bus.messages.peers import Audited, Relayed


def said(number: int, envoy: str = "e") -> Relayed:
    return Relayed(InstanceId("i"), 1, envoy=envoy, number=number)


def test_words_in_order_follow_each_other() -> None:
    relays = Relays()
    assert all(relays.follows(said(number)) for number in (1, 2, 3))


def test_a_hole_shows_at_the_next_word() -> None:
    relays = Relays()
    assert relays.follows(said(1))
    assert not relays.follows(said(3))
    assert relays.follows(said(4)), "what was dispatched anew goes on from here"


def test_the_first_word_may_be_the_one_that_was_lost() -> None:
    assert not Relays().follows(said(2))


def test_another_envoy_does_not_know_what_was_dispatched_before() -> None:
    relays = Relays()
    assert relays.follows(said(1))
    assert not relays.follows(said(1, envoy="other"))
    assert relays.follows(said(2, envoy="other")), "what was dispatched anew is known to the new one"


def test_a_last_word_that_was_lost_shows_at_the_second_audit() -> None:
    relays = Relays()
    assert relays.follows(said(1))
    assert relays.agrees(Audited("e", 2)), "it may still be on its way"
    assert not relays.agrees(Audited("e", 2))


def test_words_that_are_only_late_are_not_lost() -> None:
    relays = Relays()
    assert relays.agrees(Audited("e", 1))
    assert relays.follows(said(1))
    assert relays.agrees(Audited("e", 1))


def test_an_envoy_that_ended_before_its_first_word_shows_at_the_second_audit() -> None:
    relays = Relays()
    assert relays.agrees(Audited())
    assert not relays.agrees(Audited())


def test_an_envoy_that_ended_later_shows_at_once() -> None:
    relays = Relays()
    assert relays.follows(said(1))
    assert not relays.agrees(Audited())
