"""The node's side of the gateway: starts a Request actor per API request, and knows those that live."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

import pykka

from actors import names
from actors.asking import ask_coordinator
from actors.gateway import View
from actors.kernel.directory import Directory, NobodyThere
from actors.kernel.mailbox import MailboxFull
from actors.kernel.reference import Ref
from actors.messages import Preview, RequestMessage
from actors.outlet import Outlet
from actors.request import Request
from actors.running.rate import Departures
from bus.bus import Bus
from bus.messages.base import InstanceId, NodeId, RequestId
from bus.messages.generation import Refusal, RefusalCode
from bus.messages.placement import Create, Created, Instance, Previews, Wish, Withdraw
from bus.messages.request import Failed, Order, RequestEvent

logger = logging.getLogger(__name__)

PREVIEW_S = 10.0
"""Planning takes milliseconds; a slow disk may hold up the Placement for longer."""

MOST_REQUESTS = 2048
"""Requests that a node has open at most."""


class LiveGeneration:
    """One request, from outside: its events, and the means to end it."""

    def __init__(self, request: RequestId, outlet: Outlet, ref: Ref[RequestMessage] | None) -> None:
        self.request = request
        self._outlet, self._ref = outlet, ref

    def __aiter__(self) -> AsyncIterator[RequestEvent]:
        return aiter(self._outlet)

    def cancel(self, reason: str) -> None:
        """Kill the Request actor, and nothing else."""
        if self._ref is not None:
            self._ref.kill(reason)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._outlet.ended:
            self.cancel("the client went away")


class NodeGateway:
    """See `actors.gateway.Gateway`."""

    def __init__(self, node: NodeId, bus: Bus, directory: Directory, timeout_s: float) -> None:
        self.node = node
        self.view: View = bus.view
        self._bus, self._directory, self._timeout_s = bus, directory, timeout_s
        self._live: dict[RequestId, Ref[RequestMessage]] = {}
        self._departures = Departures()
        self._leaving = False

    def open(self, order: Order) -> LiveGeneration:
        """Start a Request actor."""
        outlet = Outlet()
        refusal = self._refusal()
        if refusal is not None:
            outlet.put(Failed(refusal=refusal))
            return LiveGeneration(order.request, outlet, None)
        ref = Request.start(
            order,
            outlet,
            self.node,
            self._bus,
            self._directory,
            order.timeout_s or self._timeout_s,
            lambda: self._ended(order.request),
        )
        self._live[order.request] = ref
        self._departures.note(time.monotonic(), 0, len(self._live))
        return LiveGeneration(order.request, outlet, ref)

    def _refusal(self) -> Refusal | None:
        """Why nothing is opened now; None: it is."""
        if self._leaving:
            message = "this node is stopping: ask another one"
            return Refusal(RefusalCode.OVERLOADED, message, retry_after_s=1.0)
        if len(self._live) < MOST_REQUESTS:
            return None
        wait_s = self._departures.wait_s(time.monotonic(), len(self._live) + 1 - MOST_REQUESTS)
        message = (
            f"{MOST_REQUESTS} requests are open on this node; there will be room in about {wait_s:.0f} s"
        )
        return Refusal(RefusalCode.OVERLOADED, message, retry_after_s=wait_s)

    def _ended(self, request: RequestId) -> None:
        left = 0 if self._live.pop(request, None) is None else 1
        self._departures.note(time.monotonic(), left, len(self._live))

    def cancel(self, request: RequestId, reason: str) -> bool:
        """Kill a live request's actor."""
        ref = self._live.get(request)
        if ref is not None:
            ref.kill(reason)
        return ref is not None

    async def create(self, wish: Wish, replicas: int) -> tuple[Instance, ...] | Refusal:
        """Have the coordinator place it."""
        answer = await ask_coordinator(self._directory, self._bus.mesh, Create(wish=wish, replicas=replicas))
        return answer.instances if isinstance(answer, Created) else answer or ()

    async def withdraw(self, instance: InstanceId) -> Refusal | None:
        """Have the coordinator withdraw it."""
        answer = await ask_coordinator(self._directory, self._bus.mesh, Withdraw(instance=instance))
        return answer if isinstance(answer, Refusal) else None

    async def preview(self, wish: Wish) -> Previews | Refusal:
        """Ask this node's Placement: it knows as much as the coordinator's."""
        try:
            placement = self._directory.get(names.PLACEMENT)
            return await placement.request(Preview(wish), (Previews, Refusal), timeout=PREVIEW_S)
        except (NobodyThere, pykka.ActorDeadError, MailboxFull, TimeoutError):
            return Refusal(RefusalCode.TIMEOUT, "the placement did not answer; try again", retry_after_s=1.0)

    async def drained(self, within_s: float) -> None:
        """Wait until no request is open, within limits; new ones are refused from now on."""
        self._leaving = True
        try:
            async with asyncio.timeout(within_s):
                for ref in list(self._live.values()):
                    await ref.ended
        except TimeoutError:
            logger.warning("%d requests are still open: they end now", len(self._live))

    async def close(self, reason: str) -> None:
        """End all requests, and wait until they have ended."""
        refs = list(self._live.values())
        for ref in refs:
            ref.kill(reason)
        for ref in refs:
            await ref.ended
