"""What waits for a slow client is kept in order and bounded by merging."""

import asyncio

import pytest

from api.outbox import Outbox, OutboxClosed


def outbox(limit: int = 0) -> Outbox[tuple[str, str]]:
    return Outbox(lambda item: item[0], lambda earlier, later: (later[0], earlier[1] + later[1]), limit)


async def test_items_of_one_key_are_merged_and_keys_keep_their_order() -> None:
    box = outbox()
    for item in (("a", "1"), ("b", "2"), ("a", "3")):
        box.put(item)
    assert await box.take(1) == [("a", "13"), ("b", "2")]


async def test_below_the_limit_nothing_is_merged() -> None:
    box = outbox(limit=2)
    for text in "1234":
        box.put(("a", text))
    assert await box.take(1) == [("a", "1"), ("a", "234")]
    box.put(("a", "5"))
    assert await box.take(1) == [("a", "5")]


async def test_take_waits_for_the_first_item() -> None:
    box = outbox()
    taking = asyncio.create_task(box.take(10))
    await asyncio.sleep(0)
    box.put(("a", "1"))
    assert await taking == [("a", "1")]


async def test_take_gives_up_in_time() -> None:
    assert await outbox().take(0.001) == []


async def test_what_is_left_comes_before_the_end() -> None:
    box = outbox()
    box.put(("a", "1"))
    box.close()
    assert await box.take(1) == [("a", "1")]
    with pytest.raises(OutboxClosed):
        await box.take(1)


async def test_an_error_ends_it_too() -> None:
    box = outbox()
    taking = asyncio.create_task(box.take(10))
    await asyncio.sleep(0)
    box.close(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await taking
