"""What holds for an actor on either seat: answers, errors, hooks and their order."""

from __future__ import annotations

import asyncio

import pykka
import pytest

from actors.kernel.lifecycle import Escaped
from actors.kernel.mailbox import MailboxFull
from actors.kernel.reference import AskTimeout, WouldBlockLoop
from tests.actors.probe import Diary, Hold, Leave, Raise, Say, Start, ended, held, on_both_seats, soon, stop

pytestmark = [pytest.mark.usefixtures("bound_loop"), on_both_seats]


async def test_a_coroutine_is_answered(start: Start) -> None:
    ref = start(Diary())
    assert await ref.request(Say("hello"), str) == "hello"
    await stop(ref)


async def test_a_thread_is_answered(start: Start) -> None:
    ref = start(Diary())
    assert await asyncio.to_thread(ref.ask, Say("hello"), str) == "hello"
    assert await asyncio.to_thread(ref.stop) is True
    assert await asyncio.to_thread(ref.stop) is False


async def test_messages_are_handled_in_order(start: Start) -> None:
    ref = start(diary := Diary())
    for word in "abc":
        ref.tell(Say(word))
    await stop(ref)
    assert diary.lines == ["on_start", "a", "b", "c", "on_stop", "on_end"]


async def test_an_error_in_an_answer_goes_to_the_asker_and_the_actor_lives_on(start: Start) -> None:
    ref = start(diary := Diary())
    with pytest.raises(ZeroDivisionError):
        await ref.request(Raise(ZeroDivisionError("asked")))
    assert await ref.request(Say("alive")) == "alive"
    await stop(ref)
    assert "on_failure" not in diary.lines


async def test_an_error_that_nobody_awaits_ends_the_actor(start: Start) -> None:
    ref = start(diary := Diary())
    error = ZeroDivisionError("told")
    ref.tell(Raise(error))
    await ended(ref)
    assert ref.cause is error
    assert diary.lines == ["on_start", "on_failure", "on_end"]


@pytest.mark.parametrize("stray", [asyncio.CancelledError(), SystemExit(3), GeneratorExit()], ids=repr)
async def test_what_is_no_exception_ends_one_actor_and_no_other(start: Start, stray: BaseException) -> None:
    ref, other = start(Diary()), start(Diary())
    with pytest.raises(Escaped):
        await ref.request(Raise(stray))
    ref.tell(Raise(stray))
    await ended(ref)
    assert isinstance(ref.cause, Escaped)
    assert ref.cause.__cause__ is stray
    assert await other.request(Say("alive")) == "alive"
    await stop(other)


async def test_started_tells_that_on_start_has_run(start: Start) -> None:
    ref = start(diary := Diary())
    await soon(ref.started)
    assert diary.lines == ["on_start"]
    await stop(ref)


@pytest.mark.parametrize(
    ("hook", "lines"),
    [
        ("on_start", ["on_start", "on_end"]),
        ("on_stop", ["on_start", "on_stop", "on_end"]),
        ("on_failure", ["on_start", "on_failure", "on_end"]),
        ("on_end", ["on_start", "on_stop", "on_end"]),
    ],
)
async def test_a_hook_that_raises_is_the_cause_of_the_end(start: Start, hook: str, lines: list[str]) -> None:
    ref = start(diary := Diary(wrong_in=hook))
    if hook == "on_failure":
        ref.post(Raise(ValueError("on_failure")))
    else:
        ref.stop(block=False)
    await ended(ref)
    assert diary.lines == lines
    assert repr(ref.cause) == repr(ValueError(hook))


async def test_a_failed_start_is_told_to_who_waits_for_it(start: Start) -> None:
    ref = start(Diary(wrong_in="on_start"))
    with pytest.raises(pykka.ActorDeadError, match="before it had started"):
        await soon(ref.started)
    await ended(ref)


async def test_a_full_mailbox_refuses(start: Start) -> None:
    ref = start(diary := Diary())
    hold = await held(ref)
    assert [ref.post(Say(str(i))) for i in range(6)] == [True] * 5 + [False]
    with pytest.raises(MailboxFull, match="5 messages waiting"):
        ref.tell(Say("too much"))
    with pytest.raises(MailboxFull):
        await ref.request(Say("too much"))
    hold.release.set()
    await stop(ref)
    assert diary.lines == ["on_start", *"01234", "on_stop", "on_end"]


async def test_a_stop_gets_into_a_full_mailbox(start: Start) -> None:
    ref = start(diary := Diary())
    hold = await held(ref)
    while ref.post(Say("x")):
        pass
    stopping = ref.stop(block=False)
    hold.release.set()
    assert await soon(stopping) is True
    assert diary.lines[-2:] == ["on_stop", "on_end"]
    assert diary.lines.count("x") == 5


async def test_who_asks_behind_a_stop_is_told_that_there_is_no_answer(start: Start) -> None:
    ref = start(Diary())
    hold = await held(ref)
    stopping = ref.stop(block=False)
    behind = ref.ask(Say("late"), block=False)
    hold.release.set()
    with pytest.raises(pykka.ActorDeadError):
        await soon(behind)
    assert await soon(stopping) is True


async def test_the_dead_take_no_messages(start: Start) -> None:
    ref = start(Diary())
    await stop(ref)
    assert not ref.is_alive()
    assert not ref.post(Say("hello?"))
    with pytest.raises(pykka.ActorDeadError):
        ref.tell(Say("hello?"))
    with pytest.raises(pykka.ActorDeadError):
        await ref.request(Say("hello?"))


async def test_an_answer_that_does_not_come_is_a_timeout_that_names_both(start: Start) -> None:
    ref = start(Diary())
    hold = Hold()
    with pytest.raises(AskTimeout, match=r"Probe-.* did not answer Hold within 0.01 s"):
        await ref.request(hold, timeout=0.01)
    with pytest.raises(AskTimeout):
        await asyncio.to_thread(ref.ask, Say("behind"), timeout=0.01)
    hold.release.set()
    await stop(ref)


async def test_an_answer_of_another_kind_is_an_error(start: Start) -> None:
    ref = start(Diary())
    with pytest.raises(TypeError, match="answered Say with str"):
        await ref.request(Say("not a number"), int)
    assert await ref.request(Say("either"), (int, str)) == "either"
    await stop(ref)


async def test_blocking_on_the_event_loop_is_refused(start: Start) -> None:
    ref = start(Diary())
    with pytest.raises(WouldBlockLoop, match=r"await ref.request"):
        ref.ask(Say("hello"))
    with pytest.raises(WouldBlockLoop, match=r"await ref.stop"):
        ref.stop()
    await stop(ref)


async def test_an_actor_may_stop_itself(start: Start) -> None:
    ref = start(diary := Diary())
    ref.tell(Leave())
    await ended(ref)
    assert diary.lines == ["on_start", "on_stop", "on_end"]


async def test_pykka_knows_the_living_and_only_them(start: Start) -> None:
    ref = start(Diary())
    assert pykka.ActorRegistry.get_by_urn(ref.actor_urn) is ref
    await asyncio.to_thread(pykka.ActorRegistry.stop_all)
    assert pykka.ActorRegistry.get_by_urn(ref.actor_urn) is None
    assert not ref.is_alive()
