"""Server-sent events out of the bytes of a response, each with the moment at which it was complete."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """One event, or one comment, which is what a server says to keep a connection alive."""

    at_s: float
    data: str = ""
    comment: str = ""


def parse(arrivals: Iterable[tuple[float, bytes]]) -> list[Event]:
    """The events in pieces of a response, given as (moment, bytes) in order of arrival.

    As in the WHATWG's HTML standard, section 9.2.6, of which `event`, `id` and `retry` are left out. An event
    is complete with the blank line after it; a piece may end anywhere, inside a character too.
    """
    reader = _Reader()
    for at_s, piece in arrivals:
        reader.feed(at_s, piece)
    return reader.events


class _Reader:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self._rest = b""
        self._data: list[str] = []

    def feed(self, at_s: float, piece: bytes) -> None:
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            self._take(at_s, line.removesuffix(b"\r").decode(errors="replace"))

    def _take(self, at_s: float, line: str) -> None:
        if not line:
            if self._data:
                self.events.append(Event(at_s, data="\n".join(self._data)))
            self._data = []
        elif line.startswith(":"):
            self.events.append(Event(at_s, comment=line[1:].removeprefix(" ")))
        elif line.startswith("data:"):
            self._data.append(line[5:].removeprefix(" "))
