"""How an API family tells a generation: what every family's streams and whole answers have in common."""

import time
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from api.errors import Fault, envelope
from api.schema import StreamOptions
from bus.messages.base import RequestId
from bus.messages.request import Admitted, Chunk, Completed, Order, Usage

DONE = b"data: [DONE]\n\n"


class Telling(Protocol):
    """A generation as server-sent events: each event of the request becomes the bytes that tell it."""

    def admitted(self, event: Admitted) -> bytes: ...

    def chunk(self, event: Chunk) -> bytes: ...

    def completed(self, event: Completed) -> bytes: ...

    def failed(self, fault: Fault) -> bytes: ...


class Answer(Protocol):
    """A generation as one JSON body: takes the chunks in, and is whole when the request is completed."""

    def admitted(self, event: Admitted) -> None: ...

    def chunk(self, event: Chunk) -> None: ...

    def completed(self, event: Completed) -> bytes: ...


@dataclass(frozen=True)
class Heading:
    """What every object of one response begins with."""

    id: RequestId
    model: str
    fingerprint: str
    created: int

    @classmethod
    def of(cls, order: Order, fingerprint: str) -> "Heading":
        """The heading of the response to this order, dated now."""
        return cls(order.request, order.model, fingerprint, int(time.time()))


@dataclass(frozen=True)
class UsageWish:
    """How often a stream tells what it costs: never, at its end, or in every chunk too."""

    at_end: bool = False
    always: bool = False

    @classmethod
    def of(cls, options: StreamOptions | None) -> "UsageWish":
        """What a body's `stream_options` say."""
        wish = options or StreamOptions()
        return cls(bool(wish.include_usage), bool(wish.continuous_usage_stats))


@dataclass
class RunningUsage:
    """Tokens so far, over all answers of a stream."""

    n: int = 1
    """Answers per prompt."""
    prompt_tokens: int = 0
    _latest: dict[int, Chunk] = field(default_factory=dict)

    def note(self, event: Chunk) -> None:
        """Take in what the chunk says of its answer."""
        self._latest[event.index] = event

    @property
    def so_far(self) -> Usage:
        """All answers together. A prompt counts once, so what was kept of it does too: as its first answer
        had it. How much was reasoned, an answer says at its end."""
        latest = self._latest.values()
        return Usage(
            self.prompt_tokens,
            sum(event.generated for event in latest),
            sum(event.finish.reasoning_tokens for event in latest if event.finish is not None),
            sum(event.cached for event in latest if event.index % self.n == 0),
        )


def sse(value: msgspec.Struct) -> bytes:
    """One server-sent event."""
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def sse_failure(fault: Fault) -> bytes:
    """The in-band error that ends a stream whose status is long sent."""
    return b"data: " + envelope(fault) + b"\n\n"
