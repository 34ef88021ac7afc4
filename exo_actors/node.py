"""One node: its bus, its actors and its HTTP server, built in order and taken down in reverse."""

import asyncio
import errno
import logging
import os
import signal
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Never

from actors import names
from actors.coordination.register import Register
from actors.downloader import model_name
from actors.kernel.directory import Directory
from actors.kernel.loop import bind_loop
from actors.kernel.reference import Ref
from actors.messages import Leave, Opened
from actors.node_gateway import NodeGateway
from actors.running.runner_settings import RunnerSettings
from actors.running.watchdog import Deadlines
from actors.supervisor import NodePlan, NodeSupervisor
from actors.topology import Identity
from api.keys import KeysError, read_keys
from api.limits import KeyLimits
from api.server import Server
from api.settings import ApiSettings
from bus.bus import Bus
from bus.cluster import Cluster
from bus.messages.base import ModelId, NodeId
from bus.messages.facts import DeclaredFact, Fact, NodeFact
from bus.messages.placement import Wish
from exo_actors import __version__, console
from exo_actors.cluster_key import cluster_key
from exo_actors.settings import DEFAULT_BUS_PORT, Settings, UsageError
from host import identity
from models.store import BUILT_IN

logger = logging.getLogger(__name__)

FOUND_WITHIN_S = 3.0
"""How long the nodes that were named with --peer may take to answer before this one goes on without them."""

LEAVE_S = 20.0
"""How long a node that was asked to stop gives its requests to end and its instances to move."""

STOP_S = 15.0
"""For the tree to stop in order; engines have their own, shorter patience in it."""


class Node:
    """Start it once; stopping undoes whatever of it was started."""

    def __init__(self, settings: Settings, deadlines: Deadlines | None = None) -> None:
        self._settings = settings
        self._deadlines = deadlines or Deadlines()
        self._stack = AsyncExitStack()
        self.directory = Directory()
        self.bus: Bus
        self.gateway: NodeGateway
        self.url: str
        self.gave_up: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Set to the reason when the tree of actors could not be kept alive."""

    async def start(self) -> str:
        """Start everything; returns the address. What fails is taken down again."""
        try:
            return await self._start()
        except BaseException:
            await self.stop()
            raise

    def _limits(self) -> KeyLimits | None:
        path = self._settings.api_keys
        try:
            return KeyLimits(read_keys(path)) if path is not None else None
        except KeysError as error:
            raise UsageError(f"--api-keys: {error}") from error

    async def stop(self) -> None:
        """Stop everything, newest first."""
        await self._stack.aclose()

    async def _start(self) -> str:
        settings, stack = self._settings, self._stack
        stack.enter_context(bind_loop(asyncio.get_running_loop()))
        node = identity.node_id(settings.data_dir)
        who = Identity(
            id=node,
            name=identity.node_name(settings.name),
            version=__version__,
            url="",
            started_at=time.time(),
            kv_memory=settings.kv_memory,
        )
        self.bus = bus = await self._open_bus(who)
        stack.push_async_callback(bus.close)
        self.gateway = gateway = NodeGateway(node, bus, self.directory, settings.timeout_s)
        server = Server(gateway, self._api_settings(bus), self._limits())
        # The server is up first, since its address is a fact of the node, and down first.
        self.url = await server.start()
        plan = self._plan(replace(who, url=self.url))
        supervisor = NodeSupervisor.start(plan, bus, self.directory)
        stack.push_async_callback(self._stop_tree, supervisor)
        stack.push_async_callback(gateway.close, "the node is stopping")
        stack.push_async_callback(server.stop)
        supervisor.ended.when_done(lambda: self._tree_ended(supervisor))
        await supervisor.started
        self._opening = asyncio.create_task(self._open_cluster(plan), name="those that were to be found")
        stack.push_async_callback(_cancelled, self._opening)
        return self.url

    async def _open_bus(self, who: Identity) -> Bus:
        settings = self._settings
        secret = await asyncio.to_thread(cluster_key, settings.cluster_key, settings.data_dir)
        cluster = Cluster(
            secret=secret,
            listen=settings.listen,
            port=DEFAULT_BUS_PORT if settings.bus_port is None else settings.bus_port,
            peers=settings.peers,
            mdns=settings.mdns,
            name=who.name,
            version=who.version,
            started_at=who.started_at,
        )
        try:
            return await Bus.open(who.id, cluster=cluster)
        except OSError as error:
            if settings.bus_port is not None or error.errno != errno.EADDRINUSE:
                raise
            # The usual port is another node's of this machine, as far as we know: any other will do.
            return await Bus.open(who.id, cluster=replace(cluster, port=0))

    async def _open_cluster(self, plan: NodePlan) -> None:
        """Let those that were named be found, and only then have this node decide anything for others."""
        if self.bus.mesh is not None:
            await self.bus.mesh.settled(FOUND_WITHIN_S)
        plan.opened.set()
        self.directory.post(names.PLACEMENT, Opened())

    async def leave(self) -> None:
        """Let what this node runs for others move to other nodes, and its own requests end; within limits."""
        if self.bus.mesh is None or not self.bus.mesh.members:
            return
        logger.info("leaving: what runs here moves to other nodes")
        self.directory.post(names.TOPOLOGY, Leave())
        async with asyncio.TaskGroup() as group:
            group.create_task(self.gateway.drained(LEAVE_S))
            group.create_task(self._moved())

    async def _moved(self) -> None:
        """Until no instance has a rank here any more, or nobody is left to take it."""
        view, changes, me = self.bus.view, self.bus.view.changes(), self.gateway.node
        try:
            async with asyncio.timeout(LEAVE_S):
                while has_to_move(me, view.facts().values()):
                    await anext(aiter(changes))
        except TimeoutError:
            logger.warning("what runs here could not move to other nodes within %g s", LEAVE_S)

    def _api_settings(self, bus: Bus) -> ApiSettings:
        return ApiSettings(
            host=self._settings.host,
            port=self._settings.port,
            page=self._settings.page,
            version=__version__,
            facts_endpoint=bus.facts_endpoint,
            bus_counts=bus.counts.as_dict,
        )

    def _plan(self, who: Identity) -> NodePlan:
        settings = self._settings
        paths = {name: path for name in settings.models if (path := named_folder(name)) is not None}
        folders = tuple(paths.values())
        for folder in folders:
            if not folder.is_dir():
                raise UsageError(f"--model: {folder} is no folder")
        wanted = [model_name(paths[name]) if name in paths else ModelId(name) for name in settings.models]
        if not wanted and not settings.serve_nothing:
            wanted = [BUILT_IN]
        return NodePlan(
            identity=who,
            directories=settings.models_dirs,
            folders=folders,
            wishes=tuple(Wish(model=name, context=settings.context) for name in wanted),
            runners=self._runner_settings(),
            data_dir=settings.data_dir,
            spare=settings.spare,
            auto_place=settings.auto_place,
        )

    def _runner_settings(self) -> RunnerSettings:
        settings = self._settings
        return RunnerSettings(
            pace_s=settings.pace_s,
            deadlines=self._deadlines,
            prefixes=settings.prefix_cache,
            prefixes_dir=settings.data_dir / "prefixes" if settings.keep_prefixes else None,
            prefixes_disk_bytes=settings.keep_prefixes_disk,
            speculate=settings.speculation,
            kv_memory=settings.kv_memory,
        )

    async def _stop_tree(self, supervisor: Ref[Never]) -> None:
        try:
            async with asyncio.timeout(STOP_S):
                await supervisor.stop(block=False)
        except TimeoutError:
            logger.error("the actors did not stop within %g s: killed", STOP_S)
            supervisor.kill("it did not stop in time")
            await supervisor.ended

    def _tree_ended(self, supervisor: Ref[Never]) -> None:
        def tell() -> None:
            if not self.gave_up.done():
                self.gave_up.set_result(str(supervisor.cause or "the supervisor ended"))

        self.gave_up.get_loop().call_soon_threadsafe(tell)


def has_to_move(me: NodeId, facts: Iterable[Fact]) -> bool:
    """Whether something runs here that another node could take. What failed for good runs nowhere."""
    known = list(facts)
    # Nodes repeat what they know, and not all know the latest.
    register = Register(fact for fact in known if isinstance(fact, DeclaredFact))
    alive = (fact for fact in register.declared.values() if not fact.withdrawn and not fact.given_up)
    others_stay = any(isinstance(fact, NodeFact) and fact.id != me and not fact.leaving for fact in known)
    return others_stay and any(me in fact.instance.nodes for fact in alive)


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def named_folder(name: str) -> Path | None:
    """The folder that `--model` names; None: it names a model of the store. A path is what starts like one.

    >>> named_folder("./my-model"), named_folder("org/model")
    (PosixPath('my-model'), None)
    """
    if not name.startswith((".", "~", os.sep)):
        return None
    with suppress(RuntimeError):  # a user that is not there
        return Path(name).expanduser()  # no shell does it in a variable, nor after an `=`
    return Path(name)


def serve(settings: Settings) -> int:
    """Run a node until SIGINT or SIGTERM (exit code 0), or until it can't go on (1)."""
    return asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> int:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _asked_to_stop, stopping)
    node = Node(settings)
    url = await node.start()
    try:
        print(url, flush=True)
        print(
            f"Open it in a browser, or use it as an OpenAI server at {url}/v1. Ctrl-C stops it.", flush=True
        )
        asked = asyncio.create_task(stopping.wait())
        await asyncio.wait((asked, node.gave_up), return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if not stopping.is_set():
            console.fail(f"the node gave up: {node.gave_up.result()}; the log says more")
            return 1
        await node.leave()
        return 0
    finally:
        await node.stop()
        logger.info("stopped")


def _asked_to_stop(stopping: asyncio.Event) -> None:
    if stopping.is_set():  # asked twice: whoever asks does not want to wait
        os._exit(1)
    stopping.set()
    logger.info("stopping; once more to end at once")
