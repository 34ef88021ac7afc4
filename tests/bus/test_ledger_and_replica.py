"""Facts that converge: whatever is lost or repeated, a replica ends equal to its ledger."""

import random

from hypothesis import given
from hypothesis import strategies as st

from bus.ledger import Ledger
from bus.messages.facts import Head, Since, Snapshot, Update, Updates
from bus.replica import Replica
from tests.bus.examples import MODEL, NODE, REQUEST, request


def published(ledger: Ledger, count: int) -> list[Update]:
    """So many changes of ever new keys."""
    updates = [ledger.set(f"request/{number}", request(number)) for number in range(count)]
    return [update for update in updates if update is not None]


def in_step(ledger: Ledger) -> Replica:
    replica = Replica()
    replica.hear(ledger.answer(replica.since()))
    return replica


def facts_of(ledger: Ledger) -> dict[str, object]:
    everything = ledger.answer(Since("", 0))
    assert isinstance(everything, Snapshot)
    return dict(everything.facts)


# -- the ledger ------------------------------------------------------------------------------------


def test_changes_are_numbered_without_holes() -> None:
    assert [update.number for update in published(Ledger("s", 10), 4)] == [1, 2, 3, 4]


def test_what_changes_nothing_is_no_update() -> None:
    ledger = Ledger("s", 10)
    assert ledger.set("node", None) is None
    assert ledger.set("node", NODE) == Update("s", 1, "node", NODE)
    assert ledger.set("node", NODE) is None
    assert ledger.set("node", None) == Update("s", 2, "node")
    assert ledger.head() == Head("s", 2)


def test_a_reader_a_little_behind_gets_what_it_missed() -> None:
    ledger = Ledger("s", 10)
    updates = published(ledger, 5)
    assert ledger.answer(Since("s", 3)) == Updates("s", tuple(updates[3:]))
    assert ledger.answer(Since("s", 5)) == Updates("s", ())


def test_a_reader_too_far_behind_or_of_another_session_gets_everything() -> None:
    ledger = Ledger("s", 2)
    updates = published(ledger, 5)
    everything = Snapshot("s", 5, {update.key: update.fact for update in updates if update.fact})
    assert ledger.answer(Since("s", 3)) == Updates("s", tuple(updates[3:]))
    assert ledger.answer(Since("s", 2)) == everything
    assert ledger.answer(Since("t", 5)) == everything
    assert ledger.answer(Since("s", 6)) == everything
    assert ledger.answer(Since("s", -1)) == everything


# -- the replica -----------------------------------------------------------------------------------


def test_a_new_replica_has_something_to_ask() -> None:
    replica = Replica()
    assert replica.behind
    assert replica.since() == Since("", 0)


def test_updates_in_order_are_applied_at_once() -> None:
    ledger = Ledger("s", 10)
    replica = in_step(ledger)
    for update in published(ledger, 3):
        assert replica.hear(update) == ((update.key, update.fact),)
    assert not replica.behind
    assert replica.facts == facts_of(ledger)


def test_an_update_that_was_heard_before_changes_nothing() -> None:
    ledger = Ledger("s", 10)
    replica = in_step(ledger)
    first, second = published(ledger, 2)
    replica.hear(first)
    replica.hear(second)
    assert replica.hear(first) == ()
    assert not replica.behind


def test_a_gap_is_seen_and_mended_with_what_is_missing_only() -> None:
    ledger = Ledger("s", 10)
    replica = in_step(ledger)
    first, _, third = published(ledger, 3)
    replica.hear(first)
    assert replica.hear(third) == ()
    assert replica.behind
    answer = ledger.answer(replica.since())
    assert isinstance(answer, Updates)
    assert [key for key, _ in replica.hear(answer)] == ["request/1", "request/2"]
    assert not replica.behind


def test_a_head_shows_that_the_last_update_was_lost() -> None:
    ledger = Ledger("s", 10)
    replica = in_step(ledger)
    replica.hear(ledger.head())
    assert not replica.behind
    published(ledger, 1)
    replica.hear(ledger.head())
    assert replica.behind


def test_a_new_session_withdraws_what_it_no_longer_says() -> None:
    old, new = Ledger("old", 10), Ledger("new", 10)
    old.set("node", NODE)
    old.set("model", MODEL)
    replica = in_step(old)
    update = new.set("node", NODE)
    assert update is not None
    assert replica.hear(update) == ()
    assert replica.behind
    assert replica.hear(new.answer(replica.since())) == (("model", None),)
    assert replica.facts == {"node": NODE}
    assert (replica.session, replica.number) == ("new", 1)


def test_a_snapshot_that_is_older_than_what_is_known_changes_nothing() -> None:
    ledger = Ledger("s", 10)
    early = ledger.answer(Since("", 0))
    ledger.set("node", NODE)
    replica = in_step(ledger)
    assert replica.hear(early) == ()
    assert replica.facts == {"node": NODE}


def test_an_answer_of_another_session_leaves_it_behind() -> None:
    replica = in_step(Ledger("s", 10))
    assert replica.hear(Updates("t", (Update("t", 1, "node", NODE),))) == ()
    assert replica.behind


@given(st.integers(0, 2**32), st.floats(0, 0.9), st.integers(0, 30))
def test_a_replica_converges_whatever_is_lost(seed: int, loss: float, kept: int) -> None:
    """Updates are lost at random, answers too, and the publisher starts anew now and then."""
    source = random.Random(seed)
    ledger, replica = Ledger("s0", kept), Replica()
    heard: dict[str, object] = {}
    for turn in range(100):
        if source.random() < 0.02:
            ledger = Ledger(f"s{turn}", kept)
        fact = source.choice([None, NODE, MODEL, REQUEST])
        update = ledger.set(f"key/{source.randrange(10)}", fact)
        messages = [update, ledger.answer(replica.since()) if replica.behind else None]
        for message in messages:
            if message is not None and source.random() >= loss:
                heard.update(replica.hear(message))
    replica.hear(ledger.head())
    if replica.behind:
        heard.update(replica.hear(ledger.answer(replica.since())))
    assert not replica.behind
    assert replica.facts == facts_of(ledger)
    assert {key: fact for key, fact in heard.items() if fact is not None} == replica.facts
