"""No ask is ever lost: it is answered, or refused, whatever else happens at that moment."""

from __future__ import annotations

import asyncio
import threading

import pykka
import pytest

from actors.kernel.future import Future
from actors.kernel.mailbox import MailboxFull
from tests.actors.probe import DEADLINE_S, Diary, ProbeRef, Say, Start, held, on_both_seats, soon, stop

pytestmark = [pytest.mark.usefixtures("bound_loop"), on_both_seats]

RACES = 2000


class Race:
    """Two threads that meet, and then at the same moment ask an actor and stop it."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self._line = threading.Barrier(2, timeout=DEADLINE_S)
        self._refs: list[ProbeRef] = []
        self.answers: list[Future[object]] = []
        self.stops: list[Future[bool]] = []

    def ask(self) -> None:
        for number in range(RACES):
            self._refs.append(self._start(Diary()))
            self._line.wait()
            self.answers.append(self._refs[-1].ask(Say(str(number)), block=False))
            self._line.wait()

    def stop(self) -> None:
        for _ in range(RACES):
            self._line.wait()
            self.stops.append(self._refs[-1].stop(block=False))
            self._line.wait()


async def test_two_thousand_asks_race_with_stops_and_none_is_lost(start: Start) -> None:
    race = Race(start)
    await asyncio.gather(asyncio.to_thread(race.ask), asyncio.to_thread(race.stop))
    answered = refused = 0
    for number, answer in enumerate(race.answers):
        try:
            assert await soon(answer) == str(number)
            answered += 1
        except pykka.ActorDeadError:
            refused += 1
    assert answered + refused == RACES
    assert [await soon(stopped) for stopped in race.stops] == [True] * RACES


async def test_an_ask_that_is_being_handled_when_the_actor_is_killed_is_refused(start: Start) -> None:
    ref = start(Diary())
    hold = await held(ref)
    waiting = ref.ask(Say("never"), block=False)
    ref.kill("enough")
    hold.release.set()
    with pytest.raises(pykka.ActorDeadError):
        await soon(waiting)
    await soon(ref.ended)


async def test_many_askers_at_once_are_each_given_their_own_answer(start: Start) -> None:
    ref = start(Diary())

    async def ask(number: int) -> object:
        while True:
            try:
                return await ref.request(Say(str(number)))
            except MailboxFull:
                await asyncio.sleep(0)

    assert await asyncio.gather(*map(ask, range(200))) == [str(number) for number in range(200)]
    await stop(ref)
