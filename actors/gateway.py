"""What the API may ask of the node's actors: requests opened, followed and cancelled, models placed."""

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Protocol, Self

from bus.messages.base import InstanceId, NodeId, RequestId
from bus.messages.facts import Fact
from bus.messages.generation import Refusal
from bus.messages.placement import Instance, Previews, Wish
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

    async def create(self, wish: Wish, replicas: int) -> tuple[Instance, ...] | Refusal:
        """Have a model placed so many times; what was declared, or why nothing was."""

    async def preview(self, wish: Wish) -> Previews | Refusal:
        """How a wish could be placed now, best first; nothing is declared."""

    async def withdraw(self, instance: InstanceId) -> Refusal | None:
        """Have an instance run no more; None: it is declared so."""
