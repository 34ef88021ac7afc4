"""Nodes of one local network find each other by mDNS: each announces itself, and calls whom it hears of."""

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from typing import Final

from zeroconf import Error as ZeroconfError
from zeroconf import InterfaceChoice, IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from bus.cluster import Address, Cluster, parse
from bus.counts import Count, Counts
from bus.keys import Keys
from bus.messages.base import NodeId
from bus.messages.peers import PEER_PROTOCOL
from bus.reach import all_addresses, is_wildcard

logger = logging.getLogger(__name__)

SERVICE: Final = "_exo-actors._tcp.local."
ASKING_MS: Final = 3_000
"""How long a node that was heard of may take to say where it is."""
CLOSING_S: Final = 1.0
"""How long saying goodbye may take."""
LABEL_CHARS: Final = 63
"""The longest name in DNS (RFC 1035)."""


class Discovery:
    """Announces a node and finds others. To be used on the loop's thread only."""

    def __init__(
        self,
        node: NodeId,
        cluster: Cluster,
        keys: Keys,
        address: str,
        found: Callable[[str], None],
        counts: Counts,
    ) -> None:
        """`address` is this node's own; `found` is called with HOST:PORT of each other one with its key."""
        self._node = node
        self._listen = cluster.listen
        self._fingerprint = keys.fingerprint
        self._started_at = cluster.started_at
        self._port = parse(address).port
        self._found = found
        self._counts = counts
        self._tasks: set[asyncio.Task[None]] = set()
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None

    def start(self) -> None:
        """Begin, in the background; that it can't is logged, and no reason not to go on."""
        self._begin(self._run())

    async def close(self) -> None:
        """Say goodbye, within limits."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._zeroconf is None:
            return
        try:
            async with asyncio.timeout(CLOSING_S):
                if self._browser is not None:
                    await self._browser.async_cancel()
                await self._zeroconf.async_close()
        except (OSError, ZeroconfError, TimeoutError) as error:
            logger.debug("mDNS was not ended in an orderly way: %r", error)

    async def _run(self) -> None:
        try:
            zeroconf = AsyncZeroconf(interfaces=self._interfaces(), ip_version=IPVersion.V4Only)
            self._zeroconf = zeroconf
            # Whoever has our name on this network is this node in an earlier life: no need to ask around.
            await zeroconf.async_register_service(self._announcement(), cooperating_responders=True)
            self._browser = AsyncServiceBrowser(zeroconf.zeroconf, SERVICE, handlers=[self._heard])
        except (OSError, ZeroconfError) as error:
            logger.warning(
                "Nodes on the local network are not found by themselves, mDNS does not work here: %s. "
                "Name them with --peer HOST:PORT.",
                str(error) or type(error).__name__,
            )

    def _interfaces(self) -> InterfaceChoice | list[str]:
        return InterfaceChoice.All if is_wildcard(self._listen) else [self._listen]

    def _announcement(self) -> AsyncServiceInfo:
        addresses = all_addresses() if is_wildcard(self._listen) else [self._listen]
        return AsyncServiceInfo(
            SERVICE,
            f"{self._node[:LABEL_CHARS]}.{SERVICE}",
            port=self._port,
            addresses=[socket.inet_aton(address) for address in addresses],
            properties={
                "node": self._node,
                "protocol": str(PEER_PROTOCOL),
                "key": self._fingerprint,
                # A node that comes back says something new, and is heard.
                "started": f"{self._started_at:.3f}",
            },
        )

    def _heard(
        self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        if state_change is not ServiceStateChange.Removed:
            self._begin(self._look_up(zeroconf, name))

    async def _look_up(self, zeroconf: Zeroconf, name: str) -> None:
        info = AsyncServiceInfo(SERVICE, name)
        if not await info.async_request(zeroconf, ASKING_MS):
            return
        said = info.decoded_properties
        addresses = info.parsed_addresses(IPVersion.V4Only)
        if said.get("node") == self._node or not addresses or not info.port:
            return
        if said.get("key") != self._fingerprint:
            problem = f"it has another cluster key than this node: it is left alone (node {said.get('node')})"
            self._counts.once(Count.OTHER_CLUSTERS, f"A node at {addresses[0]}", problem)
            return
        # Which of its addresses can be reached shows when they are called: all but one end by themselves.
        for address in addresses:
            self._found(str(Address(address, info.port)))

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
