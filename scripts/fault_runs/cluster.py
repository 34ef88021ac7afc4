"""The node processes of a cluster: started, struck, started again, and all gone at the end."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import psutil

from scripts.fault_runs.network import Loopback, Namespaces, Network, Place
from scripts.fault_runs.recorder import Recorder
from scripts.fault_runs.watcher import Watcher

ROOT = Path(__file__).parents[2]
START_S = 40.0
"""Until a node says where it listens: Python, MLX and a first measurement, several at once."""
KEY = "cluster.key"


class ClusterBroken(Exception):
    """The cluster can't be used any more; the message says why."""


class Node:
    """One node of the cluster: a process at a time, with the same data directory all along."""

    def __init__(
        self, index: int, place: Place, folder: Path, recorder: Recorder, names: dict[str, str]
    ) -> None:
        self.name = f"n{index}"
        self.index = index
        self.place = place
        self.data_dir = folder / self.name
        self.log = self.data_dir / "output.log"
        self.url = ""
        self.stopped = False
        """It was sent SIGSTOP, and no SIGCONT since."""
        self.dead = True
        """It was killed, or not started yet."""
        self.cut = False
        self.watcher = Watcher(self.name, lambda id_: names.get(id_, id_), recorder)
        self._names = names
        self._process: asyncio.subprocess.Process | None = None
        self._following: asyncio.Task[None] | None = None

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self, arguments: Sequence[str]) -> None:
        """Start it. Raises ClusterBroken."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.place.prefix,
                sys.executable,
                "-m",
                "exo_actors",
                *arguments,
                cwd=ROOT,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self.stopped = self.dead = False
        self.url = await self._address(self._process)
        self._names[await _id_of(self.url)] = self.name

    def follow(self) -> None:
        """Note what it sees from now on; all nodes' names have to be known by then."""
        self._following = asyncio.create_task(self.watcher.follow(self.url), name=f"watch {self.name}")

    async def _address(self, process: asyncio.subprocess.Process) -> str:
        assert process.stdout is not None
        try:
            async with asyncio.timeout(START_S):
                line = (await process.stdout.readline()).decode().strip()
        except TimeoutError:
            raise ClusterBroken(f"{self.name} said no address within {START_S:g} s; see its log") from None
        if not line:
            raise ClusterBroken(f"{self.name} ended at its start:\n{self.last_words()}")
        return f"http://{self.place.host}:{line.rpartition(':')[2].rstrip('/')}"

    def last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-12:])

    def engines(self) -> list[psutil.Process]:
        return [child for child in self._family()[1:] if _is_engine(child)]

    def signal_all(self, number: signal.Signals) -> None:
        """The whole machine: the node first, so that it starts no engine meanwhile."""
        for process in self._family():
            _send(process, number)
        self.stopped = number is signal.SIGSTOP

    def signal_engines(self, number: signal.Signals) -> int:
        """Only its engines; returns how many there were."""
        engines = self.engines()
        for engine in engines:
            _send(engine, number)
        return len(engines)

    async def kill(self) -> None:
        """SIGKILL to all of it, whatever state it is in."""
        self.dead = True
        if self._process is None:
            return
        family = self._family()
        for process in family:
            _send(process, signal.SIGSTOP)
        for process in [*family, *self._family()]:
            _send(process, signal.SIGKILL)
        await self._gone()

    async def _gone(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait((self._following,))
            self._following = None
        if self._process is not None:
            await self._process.communicate()
            self._process = None
        self.watcher.forget()

    def _family(self) -> list[psutil.Process]:
        if self._process is None:
            return []
        try:
            node = psutil.Process(self._process.pid)
            return [node, *node.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


class Cluster:
    """Nodes that know each other."""

    def __init__(self, network: Network, folder: Path, models: Path, model: str, recorder: Recorder) -> None:
        self.names: dict[str, str] = {}
        """From a node's id to what the run calls it."""
        self._network = network
        self._models = models
        self._model = model
        self.nodes = [
            Node(index, place, folder, recorder, self.names) for index, place in enumerate(network.places)
        ]

    @property
    def live(self) -> list[Node]:
        """Those that nobody killed or holds."""
        return [node for node in self.nodes if not node.dead and not node.stopped]

    def node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    async def start(self) -> None:
        """Start all nodes. The first one makes the key, which the others are given."""
        first, *others = self.nodes
        await self._launch(first)
        await together(*(self._launch(node) for node in others))
        for node in self.nodes:
            node.follow()

    async def start_again(self, node: Node) -> None:
        """After it was killed."""
        await self._launch(node)
        node.follow()

    async def _launch(self, node: Node) -> None:
        place = node.place
        arguments = ["--data-dir", str(node.data_dir), "--models-dir", str(self._models), "--name", node.name]
        # What a request asks for while nothing is placed must not be placed in another layout than the run's.
        arguments += ["--model", self._model, "--no-auto-place"]
        arguments += ["--host", place.host, "--port", "0", "--offline", "--no-mdns", "--no-page"]
        arguments += ["--listen", place.listen, "--bus-port", str(place.bus_port)]
        for other in self.nodes:
            if other is not node:
                arguments += ["--peer", f"{other.place.listen}:{other.place.bus_port}"]
        if node is not self.nodes[0]:
            arguments += ["--cluster-key", str(self.nodes[0].data_dir / KEY)]
        await node.start(arguments)

    def cut(self, node: Node) -> None:
        """Take its link to the others away."""
        self._network.cut(node.index)
        node.cut = True

    def mend(self, node: Node) -> None:
        if node.cut:
            self._network.mend(node.index)
        node.cut = False

    async def end(self) -> None:
        """Kill what is left."""
        for node in self.nodes:
            await node.kill()
        self._network.close()


@asynccontextmanager
async def running(
    nodes: int, namespaces: bool, folder: Path, models: Path, model: str, recorder: Recorder
) -> AsyncIterator[Cluster]:
    """A cluster from its start until the block is left."""
    network: Network = Namespaces(nodes) if namespaces else Loopback(nodes)
    cluster = Cluster(network, folder, models, model, recorder)
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.end()


async def together(*work: Coroutine[None, None, None]) -> None:
    """Do all at once. Raises ClusterBroken, with all the reasons, when the rest has been ended."""
    reasons: list[str] = []
    try:
        async with asyncio.TaskGroup() as group:
            for each in work:
                group.create_task(each)
    except* ClusterBroken as broken:
        reasons += map(str, broken.exceptions)
    if reasons:
        raise ClusterBroken("; ".join(reasons))


async def _id_of(url: str) -> str:
    """The node's own id, as it tells it."""
    timeout = aiohttp.ClientTimeout(total=START_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"{url}/v1/cluster") as response,
        ):
            return str((await response.json())["node"])
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise ClusterBroken(f"{url} does not say who it is: {error}") from error


def _is_engine(process: psutil.Process) -> bool:
    try:
        return "engine" in process.cmdline()
    except psutil.NoSuchProcess:
        return False


def _send(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)
