"""What the kernel builds on in `pykka.Actor`, private hooks included, typed as it uses them."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING

import pykka

from actors.kernel.mailbox import Mailbox


class Hooks:
    """`pykka.Actor` in outline, for the type checker.

    Pykka says that `on_start`, `on_stop` and `on_failure` return None; on an event loop they may be coroutine
    functions, so they are `object` here. A test holds each name against the installed pykka.
    """

    actor_urn: str
    actor_inbox: Mailbox
    actor_stopped: threading.Event
    _actor_ref: pykka.ActorRef[pykka.Actor]

    def on_start(self) -> object: ...

    def on_stop(self) -> object: ...

    def on_failure(
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> object: ...

    def stop(self) -> None: ...

    def _start_actor_loop(self) -> None: ...

    def _actor_loop(self) -> None: ...

    def _actor_loop_setup(self) -> None: ...

    def _actor_loop_running(self) -> None: ...

    def _actor_loop_teardown(self) -> None: ...

    def _handle_receive(self, message: object) -> object: ...

    def _handle_failure(
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def _stop(self) -> None: ...


if TYPE_CHECKING:
    PykkaActor = Hooks
else:
    PykkaActor = pykka.Actor
