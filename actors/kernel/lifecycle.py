"""What actors and those around them say about life and death."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Never

if TYPE_CHECKING:
    from actors.kernel.reference import Ref


@dataclass(frozen=True, slots=True)
class Kill:
    """Die now: goes before every message, and discards them."""

    reason: str


@dataclass(frozen=True, slots=True)
class Terminated:
    """Told to a watcher when the watched actor has ended. No cause: it stopped in order."""

    ref: Ref[Never]
    cause: BaseException | None


class Killed(Exception):
    """The cause of the end of an actor that was told to die at once."""


class Escaped(Exception):
    """A handler let out what is no `Exception`, such as a `CancelledError` or a `SystemExit`.

    Pykka stops every actor of the process on those; here the one actor fails, like on any other error.
    """
