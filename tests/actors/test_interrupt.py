"""A kill interrupts what a LoopActor awaits, in whatever hook, and its end is announced all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pykka
import pytest

from actors.kernel.actor import LoopActor
from actors.kernel.future import Future
from actors.kernel.lifecycle import Killed, Terminated
from actors.kernel.loop import bind_loop
from actors.kernel.reference import Ref
from tests.actors.probe import (
    DEADLINE_S,
    Watcher,
    ended,
    on_both_seats,
    soon,
    stop,
)


@pytest.fixture(autouse=True)
def _bound(bound_loop: asyncio.AbstractEventLoop) -> None:
    """All of these need it."""


@on_both_seats
@dataclass
class Stages:
    """What is waited for in each hook of a Sleeper, and what has been passed."""

    begun: dict[str, Future[None]] = field(
        default_factory=lambda: {hook: Future() for hook in ("on_start", "on_receive", "on_stop", "on_end")}
    )
    sleeps_in: str = ""
    swallows: bool = False
    interrupted: list[str] = field(default_factory=list)


class Sleeper(LoopActor[str]):
    """Sleeps for ever in one of its hooks."""

    end_within_s = 0.05

    def __init__(self, stages: Stages) -> None:
        super().__init__()
        self.stages = stages

    async def on_start(self) -> None:
        await self._pass("on_start")

    async def on_receive(self, message: str) -> str:
        await self._pass("on_receive")
        return message

    async def on_stop(self) -> None:
        await self._pass("on_stop")

    async def on_end(self, cause: BaseException | None) -> None:
        await self._pass("on_end")

    async def _pass(self, hook: str) -> None:
        if not self.stages.begun[hook].is_done():
            self.stages.begun[hook].set()
        if self.stages.sleeps_in == hook:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.stages.interrupted.append(hook)
                if not self.stages.swallows:
                    raise


KILLERS: dict[str, Callable[[Ref[str]], object]] = {
    "from the loop": lambda ref: ref.kill("enough"),
    "from a thread": lambda ref: asyncio.get_running_loop().run_in_executor(None, ref.kill, "enough"),
}


@pytest.mark.parametrize("killer", KILLERS)
@pytest.mark.parametrize("hook", ["on_start", "on_receive", "on_stop"])
async def test_a_kill_interrupts_what_a_hook_awaits(hook: str, killer: str) -> None:
    stages = Stages(sleeps_in=hook)
    ref = Sleeper.start(stages)
    if hook != "on_start":
        ref.tell("sleep")
    if hook == "on_stop":
        ref.stop(block=False)
    await soon(stages.begun[hook])
    KILLERS[killer](ref)
    await ended(ref)
    assert stages.interrupted == [hook]
    assert stages.begun["on_end"].is_done()
    assert str(ref.cause) == "enough"


async def test_who_asked_what_a_kill_interrupts_is_told() -> None:
    stages = Stages(sleeps_in="on_receive")
    ref = Sleeper.start(stages)
    answer = ref.ask("sleep", block=False)
    await soon(stages.begun["on_receive"])
    ref.kill("enough")
    with pytest.raises(pykka.ActorDeadError, match="ended before it answered"):
        await soon(answer)
    await ended(ref)


async def test_a_kill_before_the_first_step_skips_on_start_and_runs_on_end() -> None:
    stages = Stages(sleeps_in="on_start")
    ref = Sleeper.start(stages)
    ref.kill("not yet begun")
    await ended(ref)
    assert not stages.begun["on_start"].is_done()
    assert stages.begun["on_end"].is_done()
    with pytest.raises(pykka.ActorDeadError):
        await ref.started


async def test_a_handler_that_swallows_the_interruption_ends_after_it() -> None:
    stages = Stages(sleeps_in="on_receive", swallows=True)
    ref = Sleeper.start(stages)
    ref.tell("sleep")
    ref.tell("never")
    await soon(stages.begun["on_receive"])
    ref.kill("enough")
    await ended(ref)
    assert stages.interrupted == ["on_receive"]
    assert str(ref.cause) == "enough"


async def test_on_end_has_so_long_and_no_longer() -> None:
    stages = Stages(sleeps_in="on_end")
    ref = Sleeper.start(stages)
    await soon(ref.started)
    ref.kill("enough")
    await ended(ref)
    assert stages.interrupted == ["on_end"]
    assert str(ref.cause) == "enough"


@pytest.mark.parametrize("first", ["stop", "kill"])
async def test_a_kill_does_not_cut_on_end_short(first: str) -> None:
    class Careful(LoopActor[str]):
        done = False

        def on_receive(self, message: str) -> None: ...

        async def on_end(self, cause: BaseException | None) -> None:
            self.actor_ref.kill("again")
            await asyncio.to_thread(self.actor_ref.kill, "and again")
            Careful.done = True

    ref = Careful.start()
    await soon(ref.started)
    if first == "stop":
        ref.stop(block=False)
    else:
        ref.kill("enough")
    await ended(ref)
    assert Careful.done


async def test_after_a_kill_on_end_can_use_task_groups_and_timeouts() -> None:
    class Tidy(LoopActor[str]):
        caught = ""

        async def on_receive(self, message: str) -> None:
            await asyncio.Event().wait()

        async def on_end(self, cause: BaseException | None) -> None:
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0, "else the structures of asyncio take us for being cancelled"
            try:
                async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
                    group.create_task(self._fail())
            except ExceptionGroup as several:
                Tidy.caught = str(several.exceptions[0])

        async def _fail(self) -> None:
            raise ValueError("a part failed")

    ref = Tidy.start()
    answer = ref.ask("wait", block=False)
    await soon(ref.started)
    ref.kill("enough")
    await ended(ref)
    assert answer.is_done()
    assert Tidy.caught == "a part failed"


async def test_a_kill_is_the_cause_whatever_a_handler_makes_of_it() -> None:
    class Dramatic(LoopActor[Future[None]]):
        async def on_receive(self, message: Future[None]) -> None:
            try:
                message.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise ConnectionError("all is lost") from None

    ref = Dramatic.start()
    ref.tell(begun := Future[None]())
    await soon(begun)
    ref.kill("enough")
    await ended(ref)
    assert str(ref.cause) == "enough"


async def test_an_actor_that_kills_itself_ends_of_it_and_can_still_await_in_on_end() -> None:
    class Tired(LoopActor[str]):
        cleaned_up = False

        async def on_receive(self, message: str) -> None:
            self.actor_ref.kill(message)

        async def on_end(self, cause: BaseException | None) -> None:
            async with asyncio.timeout(DEADLINE_S):
                await asyncio.sleep(0)
            Tired.cleaned_up = True

    ref = Tired.start()
    ref.tell("I am done")
    await ended(ref)
    assert str(ref.cause) == "I am done"
    assert Tired.cleaned_up


async def test_a_cancelled_future_that_a_handler_awaits_is_a_failure_and_no_kill() -> None:
    class Misled(LoopActor[str]):
        async def on_receive(self, message: str) -> None:
            never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            never.cancel()
            await never

    ref = Misled.start()
    ref.tell("go")
    await ended(ref)
    assert not isinstance(ref.cause, Killed)
    assert "CancelledError" in str(ref.cause)


# -- the end of the loop ---------------------------------------------------------------------------


@pytest.mark.parametrize("hook", ["", "on_start", "on_receive"])
async def test_the_end_of_its_loop_ends_an_actor_in_every_state(hook: str) -> None:
    stages = Stages(sleeps_in=hook)
    refs: list[Ref[str]] = []

    async def another_loop() -> None:
        with bind_loop(asyncio.get_running_loop()):
            refs.append(Sleeper.start(stages))
            if hook:
                refs[0].tell("sleep")
                await stages.begun[hook]
            # else the loop ends before the actor takes its first step

    await asyncio.to_thread(asyncio.run, another_loop())
    (ref,) = refs
    await ended(ref)
    assert isinstance(ref.cause, Killed)
    assert not ref.post("hello?")
    ref.kill("dead already")


async def test_a_task_that_is_cancelled_before_its_first_step_is_announced_too() -> None:
    ends: asyncio.Queue[Terminated] = asyncio.Queue()
    watcher = Watcher.start(ends)
    await soon(watcher.started)
    ref = Sleeper.start(Stages())
    ref.watch(watcher)
    (task,) = (task for task in asyncio.all_tasks() if task.get_name() == str(ref))
    task.cancel()
    assert str((await soon(ends.get())).cause) == "its task was cancelled"
    await ended(ref)
    await stop(watcher)


async def test_a_thread_can_not_start_an_actor_on_a_closed_loop() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    before = pykka.ActorRegistry.get_all()
    with bind_loop(loop), pytest.raises(RuntimeError, match="closed"):
        Sleeper.start(Stages())
    assert pykka.ActorRegistry.get_all() == before


async def test_thousands_are_cheap_to_start_and_to_kill() -> None:
    refs = [Sleeper.start(Stages()) for _ in range(3000)]
    await soon(refs[-1].started)
    for ref in refs:
        ref.kill("enough")
    await ended(*refs)
