"""Names: who bears which, and that the dead bear none."""

from __future__ import annotations

import pytest

from actors.kernel.directory import Directory, Name, NobodyThere
from tests.actors.probe import Diary, ProbeMessage, Say, Start, ended, held, on_both_seats, stop

pytestmark = [pytest.mark.usefixtures("bound_loop"), on_both_seats]

ECHO: Name[ProbeMessage] = Name("echo")


async def test_an_actor_is_found_and_told_by_its_name(start: Start) -> None:
    directory, ref = Directory(), start(diary := Diary())
    directory.register(ECHO, ref)
    assert directory.find(ECHO) is ref
    assert directory.get(ECHO) is ref
    assert directory.post(ECHO, Say("hello"))
    await stop(ref)
    assert "hello" in diary.lines


async def test_the_dead_bear_no_name(start: Start) -> None:
    directory, ref = Directory(), start(Diary())
    directory.register(ECHO, ref)
    ref.kill("enough")
    await ended(ref)
    assert directory.names() == ()
    assert not directory.post(ECHO, Say("hello?"))
    with pytest.raises(NobodyThere, match="'echo'"):
        directory.get(ECHO)


async def test_who_is_dead_when_it_is_named_bears_no_name(start: Start) -> None:
    directory, ref = Directory(), start(Diary())
    await stop(ref)
    directory.register(ECHO, ref)
    assert directory.find(ECHO) is None


async def test_the_end_of_one_does_not_take_the_name_of_the_next(start: Start) -> None:
    directory, old, new = Directory(), start(Diary()), start(Diary())
    directory.register(ECHO, old)
    directory.register(ECHO, new)
    await stop(old)
    assert directory.find(ECHO) is new
    await stop(new)


async def test_who_does_not_keep_up_is_not_told(start: Start) -> None:
    directory, ref = Directory(), start(Diary())
    directory.register(ECHO, ref)
    hold = await held(ref)
    assert [directory.post(ECHO, Say("x")) for _ in range(6)] == [True] * 5 + [False]
    hold.release.set()
    await stop(ref)
