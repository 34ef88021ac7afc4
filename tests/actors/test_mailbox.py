"""A mailbox by itself: order, bound, kill first, and nothing lost when it closes."""

from __future__ import annotations

import asyncio
import threading

import pykka
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pykka._envelope import Envelope

from actors.kernel.lifecycle import Kill
from actors.kernel.mailbox import LoopMailbox, MailboxFull, ThreadMailbox
from tests.actors.probe import DEADLINE_S, soon


def letter(text: str) -> Envelope[object]:
    return Envelope(text)


def test_first_in_is_first_out() -> None:
    box = ThreadMailbox(bound=10, owner="Echo")
    for text in "abc":
        box.put(letter(text))
    assert [box.get().message for _ in range(3)] == ["a", "b", "c"]
    assert box.empty()


def test_a_full_box_refuses_and_says_whose_it_is() -> None:
    box = ThreadMailbox(bound=2, owner="Echo")
    box.put(letter("a"))
    box.put(letter("b"))
    with pytest.raises(MailboxFull, match="Echo: 2 messages waiting"):
        box.put(letter("c"))
    box.put_beyond_bound(letter("stop"))
    assert len(box) == 3


def test_a_kill_comes_first_and_only_once() -> None:
    box = ThreadMailbox(bound=2, owner="Echo")
    box.put(letter("a"))
    assert box.kill("first")
    assert not box.kill("second")
    assert box.get().message == Kill("first")


def test_a_closed_box_refuses_and_hands_out_what_was_in_it() -> None:
    box = ThreadMailbox(bound=2, owner="Echo")
    box.put(letter("a"))
    assert [each.message for each in box.close()] == ["a"]
    for put in (box.put, box.put_beyond_bound):
        with pytest.raises(pykka.ActorDeadError, match="Echo has ended"):
            put(letter("b"))
    assert box.close() == []


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 4))
def test_every_letter_is_read_refused_or_handed_out_at_the_close(actions: list[int], bound: int) -> None:
    box = ThreadMailbox(bound, owner="Echo")
    refused: list[str] = []
    read: list[str] = []
    for number, action in enumerate(actions):
        try:
            box.put(letter(str(number)))
        except MailboxFull:
            refused.append(str(number))
        if action == 0:
            read.append(str(box.get().message))
    left = [str(each.message) for each in box.close()]
    assert sorted(refused + read + left, key=int) == [str(number) for number in range(len(actions))]
    assert read + left == sorted(read + left, key=int)


def test_a_reader_sleeps_until_there_is_a_letter() -> None:
    box = ThreadMailbox(bound=2, owner="Echo")
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(str(box.get().message)))
    reader.start()
    box.put(letter("a"))
    reader.join(DEADLINE_S)
    assert read == ["a"]


@pytest.mark.parametrize("from_a_thread", [False, True], ids=["from the loop", "from a thread"])
async def test_a_task_awaits_the_next_letter(from_a_thread: bool) -> None:
    box = LoopMailbox(2, "Echo", asyncio.get_running_loop())
    filled = asyncio.ensure_future(box.filled())
    await asyncio.sleep(0)
    assert not filled.done()
    if from_a_thread:
        await asyncio.to_thread(box.put, letter("a"))
    else:
        box.put(letter("a"))
    await soon(filled)
    assert box.get().message == "a"


async def test_what_is_there_need_not_be_awaited() -> None:
    box = LoopMailbox(2, "Echo", asyncio.get_running_loop())
    box.put(letter("a"))
    await soon(box.filled())
    assert box.get().message == "a"


async def test_a_kill_wakes_the_task() -> None:
    box = LoopMailbox(2, "Echo", asyncio.get_running_loop())
    interrupted = asyncio.Event()
    box.interrupt = interrupted.set
    filled = asyncio.ensure_future(box.filled())
    await asyncio.sleep(0)
    assert await asyncio.to_thread(box.kill, "enough")
    await soon(filled)
    await soon(interrupted.wait())
    assert box.get().message == Kill("enough")


def test_a_box_whose_loop_is_closed_refuses() -> None:
    loop = asyncio.new_event_loop()
    box = LoopMailbox(2, "Echo", loop)
    waiting = box.filled()
    waiting.send(None)
    loop.close()
    with pytest.raises(pykka.ActorDeadError, match="event loop is closed"):
        box.put(letter("a"))
    assert not box.kill("enough")
    waiting.close()
