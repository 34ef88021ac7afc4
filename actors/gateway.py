"""What the API may ask of the node's actors: to open, follow and cancel requests."""

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Protocol, Self

from bus.messages.base import NodeId, RequestId
from bus.messages.facts import Fact
from bus.messages.request import Order, RequestEvent


class Generation(Protocol):
    """One API request under way. Leaving the `async with` block before the end kills its Request actor."""

    request: RequestId

    def __aiter__(self) -> AsyncIterator[RequestEvent]: ...

    def cancel(self, reason: str) -> None: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class View(Protocol):
    """The latest facts of everybody."""

    def facts(self) -> dict[str, Fact]:
        """All facts by key."""

    def changes(self) -> AsyncIterator[tuple[str, Fact | None]]:
        """Every change from now on; None: withdrawn. A slow reader skips to the latest value of a key."""


class Gateway(Protocol):
    """The node, as the API sees it. To be used on the event loop only."""

    node: NodeId
    view: View

    def open(self, order: Order) -> Generation:
        """Start a Request actor; its events, errors included, come from the generation."""

    def cancel(self, request: RequestId, reason: str) -> bool:
        """Kill a request of this node; False: there is no such request (any more)."""
