"""The view: the latest of everything, and changes that a slow reader may skip but never miss the end of."""

import asyncio
import gc

import pytest

from bus.messages.base import NodeId
from bus.messages.facts import Fact
from bus.replica import Change
from bus.view import Changes, ClusterView
from tests.bus.examples import MODEL, NODE, request

OWNER = NodeId("n-1")


async def taken(changes: Changes, count: int) -> list[Change]:
    return [await anext(changes) for _ in range(count)]


async def test_it_holds_the_latest_fact_of_each_key() -> None:
    view = ClusterView()
    view.apply(OWNER, [("a", NODE), ("b", MODEL), ("a", MODEL), ("b", None)])
    assert view.facts() == {"a": MODEL}


async def test_changes_are_those_from_now_on_in_order() -> None:
    view = ClusterView()
    view.apply(OWNER, [("old", NODE)])
    changes = view.changes()
    view.apply(OWNER, [("a", NODE), ("b", MODEL), ("old", None)])
    assert await taken(changes, 3) == [("a", NODE), ("b", MODEL), ("old", None)]


async def test_a_reader_waits_for_the_next_change() -> None:
    view = ClusterView()
    waiting = asyncio.ensure_future(anext(view.changes()))
    await asyncio.sleep(0)
    assert not waiting.done()
    view.apply(OWNER, [("a", NODE)])
    assert await waiting == ("a", NODE)


async def test_a_slow_reader_gets_the_latest_value_only() -> None:
    view = ClusterView()
    changes = view.changes()
    for tokens in range(1_000):
        view.apply(OWNER, [(f"request/{tokens % 3}", request(1, tokens=tokens))])
    assert await taken(changes, 3) == [
        ("request/0", request(1, tokens=999)),
        ("request/1", request(1, tokens=997)),
        ("request/2", request(1, tokens=998)),
    ]
    view.apply(OWNER, [("end", NODE)])
    assert await anext(changes) == ("end", NODE)


async def test_what_came_and_went_unseen_is_not_told() -> None:
    """Or a reader that is stuck would cost ever more, for there is no end of requests."""
    view = ClusterView()
    view.apply(OWNER, [("stays", NODE)])
    changes = view.changes()
    for number in range(100):
        view.apply(OWNER, [(f"request/{number}", request(number)), (f"request/{number}", None)])
    view.apply(OWNER, [("stays", MODEL), ("stays", None)])
    view.apply(OWNER, [("end", NODE)])
    assert await taken(changes, 2) == [("stays", None), ("end", NODE)]


async def test_what_a_reader_has_seen_is_told_to_be_gone() -> None:
    view = ClusterView()
    changes = view.changes()
    view.apply(OWNER, [("a", NODE)])
    await anext(changes)
    view.apply(OWNER, [("a", None)])
    assert await anext(changes) == ("a", None)


async def test_a_reader_that_is_let_go_costs_nothing() -> None:
    view = ClusterView()

    async def read() -> None:
        async for _ in view.changes():
            pass

    reading = asyncio.ensure_future(read())
    await asyncio.sleep(0)
    assert repr(view) == "<ClusterView of 0 facts, 1 readers>"
    reading.cancel()
    await asyncio.wait([reading])
    del reading
    await asyncio.sleep(0)
    gc.collect()
    assert repr(view) == "<ClusterView of 0 facts, 0 readers>"


async def test_a_listener_is_called_at_once_until_it_has_enough() -> None:
    view = ClusterView()
    heard: list[tuple[str, Fact | None]] = []
    enough = view.listen(lambda key, fact: heard.append((key, fact)))
    view.apply(OWNER, [("a", NODE)])
    enough()
    view.apply(OWNER, [("a", None)])
    assert heard == [("a", NODE)]


async def test_a_listener_that_fails_fails_alone(caplog: pytest.LogCaptureFixture) -> None:
    view = ClusterView()
    heard: list[str] = []

    def broken(key: str, fact: Fact | None) -> None:
        raise RuntimeError("broken")

    view.listen(broken)
    view.listen(lambda key, fact: heard.append(key))
    view.apply(OWNER, [("a", NODE), ("b", NODE)])
    assert heard == ["a", "b"]
    assert "A listener failed on a change of a" in caplog.text


# -- several owners --------------------------------------------------------------------------------


async def test_of_two_owners_of_a_key_the_latest_shows_and_then_the_other_one_again() -> None:
    view = ClusterView()
    one, other = NodeId("n-1"), NodeId("n-2")
    view.apply(one, [("a", NODE)])
    view.apply(other, [("a", MODEL)])
    assert (view.facts(), view.owner("a")) == ({"a": MODEL}, other)
    view.apply(other, [("a", None)])
    assert (view.facts(), view.owner("a")) == ({"a": NODE}, one)
    view.apply(one, [("a", None)])
    assert (view.facts(), view.owner("a")) == ({}, None)


async def test_a_withdrawal_of_what_does_not_show_changes_nothing() -> None:
    view = ClusterView()
    heard: list[Change] = []
    view.listen(lambda key, fact: heard.append((key, fact)))
    view.apply(NodeId("n-1"), [("a", NODE)])
    view.apply(NodeId("n-2"), [("a", MODEL)])
    view.apply(NodeId("n-1"), [("a", None)])
    assert heard == [("a", NODE), ("a", MODEL)]


async def test_all_facts_of_an_owner_that_is_gone_are_withdrawn() -> None:
    view = ClusterView()
    view.apply(NodeId("n-1"), [("a", NODE), ("b", NODE)])
    view.apply(NodeId("n-2"), [("b", MODEL), ("c", MODEL)])
    view.forget(NodeId("n-2"))
    assert view.facts() == {"a": NODE, "b": NODE}
