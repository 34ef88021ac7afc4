"""A supervisor starts its children in order, restarts those that end, and gives up if that does not help."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Never, Protocol, TypeAlias, TypeVar

import pykka

from actors.kernel.actor import ThreadActor
from actors.kernel.directory import Directory, Name
from actors.kernel.lifecycle import Killed, Terminated
from actors.kernel.reference import Ref
from actors.kernel.restarts import (
    History,
    Intensity,
    Restart,
    Strategy,
    TooManyRestarts,
    affected,
    is_restarted,
)

logger = logging.getLogger(__name__)

M = TypeVar("M")


class AnyChild(Protocol):
    """A child, whatever it understands."""

    @property
    def name(self) -> str: ...

    @property
    def restart(self) -> Restart: ...

    @property
    def start_within_s(self) -> float: ...

    @property
    def stop_within_s(self) -> float: ...

    def begin(self, directory: Directory) -> Ref[Never]: ...


@dataclass(frozen=True, slots=True)
class Child(Generic[M]):
    """How to start and stop one supervised actor."""

    name: Name[M]
    start: Callable[[], Ref[M]]
    restart: Restart = Restart.PERMANENT
    start_within_s: float = 10.0
    stop_within_s: float = 5.0

    def begin(self, directory: Directory) -> Ref[Never]:
        """Start one life of it, known by its name."""
        ref = self.start()
        directory.register(self.name, ref)
        return ref


@dataclass(frozen=True, slots=True)
class Unstarted:
    """A child could not even be made."""

    child: AnyChild
    error: Exception


@dataclass(frozen=True, slots=True)
class Revive:
    """The wait before a restart is over."""

    name: str


@dataclass(frozen=True, slots=True)
class Overdue:
    """A child that was released should have stopped by now."""

    ref: Ref[Never]


Supervising: TypeAlias = Terminated | Unstarted | Revive | Overdue


class Supervisor(ThreadActor[Supervising | M]):
    """Keeps its children running, and registers each life of theirs in `directory` under the child's name.

    Children start one after the other, each when the one before has started; a child must therefore not ask
    its supervisor in `on_start`. They stop in the reverse order, with a deadline each, after which they are
    killed. `M` is what a subclass understands besides; it gets that in `on_message`.
    """

    def __init__(
        self,
        *children: AnyChild,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        intensity: Intensity | None = None,
        directory: Directory | None = None,
    ) -> None:
        super().__init__()
        self._supervised = list(children)
        self._strategy = strategy
        self._intensity = intensity or Intensity()
        self._directory = directory or Directory()
        self._history = History()
        self._lives: dict[str, Ref[Never]] = {}
        self._waiting: set[str] = set()
        self._released: dict[Ref[Never], AnyChild] = {}

    def on_start(self) -> None:
        self._start_in_order(self._supervised)

    def on_receive(self, message: Supervising | M) -> object:
        match message:
            case Terminated(ref=ref, cause=cause):
                self._on_terminated(ref, cause)
            case Unstarted(child=child, error=error):
                self._on_end_of(child, error)
            case Revive(name=name):
                self._revive(name)
            case Overdue(ref=ref):
                self._on_overdue(ref)
            case _:
                return self.on_message(message)
        return None

    def on_message(self, message: M) -> object:
        """What a subclass understands besides."""
        raise TypeError(f"{self.actor_ref} does not understand {type(message).__name__}")

    def on_end(self, cause: BaseException | None) -> None:
        if not isinstance(cause, Killed):
            self._stop_in_reverse(self._supervised)
            for ref, child in self._released.items():
                _stop(child, ref)

    def supervise(self, child: AnyChild) -> None:
        """Start one more child, after the others. For subclasses; an error counts as the child's failure."""
        self._supervised.append(child)
        if self._strategy is Strategy.REST_FOR_ONE and self._waiting:
            self._waiting.add(child.name)  # it comes with those before it
        else:
            self._start(child)

    def release(self, name: str) -> bool:
        """Stop a child for good, without waiting for it. For subclasses. False: it has no such child."""
        child = next((child for child in self._supervised if child.name == name), None)
        if child is None:
            return False
        self._supervised.remove(child)
        if name in self._waiting:
            self._waiting.discard(name)
            self._revive_first()
        ref = self._lives.pop(name, None)
        if ref is not None:
            ref.stop(block=False)
            self._released[ref] = child
            self.tell_later(child.stop_within_s, Overdue(ref))
        return True

    def _on_overdue(self, ref: Ref[Never]) -> None:
        child = self._released.get(ref)
        if child is not None:
            _kill(child, ref)

    # -- ends and restarts --

    def _on_terminated(self, ref: Ref[Never], cause: BaseException | None) -> None:
        self._released.pop(ref, None)
        child = next((child for child in self._supervised if self._lives.get(child.name) is ref), None)
        if child is None:
            return  # we stopped it ourselves
        del self._lives[child.name]
        self._on_end_of(child, cause)

    def _on_end_of(self, child: AnyChild, cause: BaseException | None) -> None:
        if child not in self._supervised:
            return
        if not is_restarted(child.restart, cause):
            self._supervised.remove(child)
            return
        delay_s = self._count_restart(child, cause)
        logger.warning("%s ended (%r): starting it again in %.1f s", child.name, cause, delay_s)
        self._waiting.add(child.name)
        self._stop_dependants(child)
        self.tell_later(delay_s, Revive(child.name))

    def _count_restart(self, child: AnyChild, cause: BaseException | None) -> float:
        """How many seconds to wait before this one. Raises TooManyRestarts."""
        try:
            self._history = self._history.with_restart(time.monotonic(), self._intensity)
        except TooManyRestarts as too_many:
            raise TooManyRestarts(f"{child.name}: {too_many}") from cause
        return self._intensity.backoff.wait_s(len(self._history.times_s))

    def _stop_dependants(self, child: AnyChild) -> None:
        """Stop those that end with it, to be started again after it."""
        running = [
            each for each in affected(self._supervised, child, self._strategy) if each.name in self._lives
        ]
        self._stop_in_reverse(running)
        for each in running:
            if each.restart is Restart.TEMPORARY:
                self._supervised.remove(each)
            else:
                self._waiting.add(each.name)

    def _revive(self, name: str) -> None:
        if self._strategy is Strategy.REST_FOR_ONE:
            if self._in_waiting() and self._in_waiting()[0].name == name:
                self._start_in_order(self._in_waiting())
            return  # otherwise what it relies on waits too, and will bring it along
        self._start_in_order([child for child in self._in_waiting() if child.name == name])

    def _revive_first(self) -> None:
        """One of those that wait has been released: those that waited for it need wait no longer."""
        if self._strategy is Strategy.REST_FOR_ONE and self._in_waiting():
            self.tell_later(0, Revive(self._in_waiting()[0].name))

    def _in_waiting(self) -> list[AnyChild]:
        return [child for child in self._supervised if child.name in self._waiting]

    # -- starting and stopping --

    def _start_in_order(self, children: Sequence[AnyChild]) -> None:
        self._waiting.update(child.name for child in children)
        for child in tuple(children):
            self._waiting.discard(child.name)
            if not self._start(child) and self._strategy is Strategy.REST_FOR_ONE:
                return  # the rest waits for it

    def _start(self, child: AnyChild) -> bool:
        """Whether it has started; if not, it will be tried again."""
        try:
            ref = child.begin(self._directory)
        except Exception as error:
            logger.exception("%s could not be started", child.name)
            self.actor_ref.deliver(Unstarted(child, error))
            return False
        self._lives[child.name] = self.adopt(ref)
        ref.watch(self.actor_ref)
        try:
            ref.started.get(timeout=child.start_within_s)
        except pykka.ActorDeadError:
            return False  # Terminated is on its way
        except pykka.Timeout:
            ref.kill(f"it did not start within {child.start_within_s} s")
            logger.error("%s did not start within %s s: killed", child.name, child.start_within_s)
            return False
        return True

    def _stop_in_reverse(self, children: Sequence[AnyChild]) -> None:
        for child in reversed(children):
            ref = self._lives.pop(child.name, None)
            if ref is not None:
                _stop(child, ref)


def _stop(child: AnyChild, ref: Ref[Never]) -> None:
    """Stop a child and wait until it has ended, with a deadline for stopping in order and one for dying."""
    try:
        ref.stop(timeout=child.stop_within_s)
        return
    except pykka.Timeout:
        _kill(child, ref)
    try:
        ref.ended.get(timeout=child.stop_within_s)
    except pykka.Timeout:
        logger.error("%s is stuck in a handler: leaving it behind", child.name)


def _kill(child: AnyChild, ref: Ref[Never]) -> None:
    ref.kill(f"it did not stop within {child.stop_within_s} s")
    logger.error("%s did not stop within %s s: killed", child.name, child.stop_within_s)
