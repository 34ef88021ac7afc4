"""Several node processes on this machine that are one cluster: for people, tests and benchmarks."""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import aiohttp

from exo_actors import convert
from exo_actors.cluster_key import KEY_FILE, KeyFileError, cluster_key
from exo_actors.settings import DEFAULT_DATA_DIR

USAGE = """usage: scripts/cluster N [--data-dir DIR] [--port PORT] [--bus-port PORT] [node flags]

Starts N nodes on this machine, called node-1 to node-N, that are one cluster. Prints the address of each as
soon as it serves, one per line and in that order. Ctrl-C or SIGTERM stops them all. A node that ends before
that is told of on standard error, and the others go on.

Each node has a data directory of its own: DIR/node-1 and so on, or a temporary one. With --port or --bus-port
the first node has that port and each further one the next; else any free ones. All other flags, and EXO_
variables, go to every node (see python -m exo_actors --help). Models are looked for in ~/.exo_actors/models
unless --models-dir says otherwise, the cluster's key is made, and mDNS is off unless EXO_NO_MDNS=0.
"""

MOST = 64
ADDRESS_S = 30.0
"""From its first line until a node's facts say where its bus is."""
LOOK_S = 0.05
STOP_S = 45.0
"""More than a node itself takes at most to move what it runs and to stop its actors."""
OWN_FLAGS = ("--data-dir", "--port", "--bus-port")
TEMPORARY = "exo_cluster_"
LONGEST_LINE = 2**20
"""Bytes of what a node says; no line of a log comes near."""


class Usage(Exception):
    """The command line is wrong; the message says how."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the nodes are started with."""

    count: int
    folder: Path | None
    """For their data directories; None: a temporary one."""
    port: int
    """The first node's, each further one has the next; 0: any free ones."""
    bus_port: int
    flags: tuple[str, ...]
    """For every node."""

    def arguments(self, index: int, folder: Path, peer: str | None) -> list[str]:
        """The command line of a node, counted from 0; `peer` is where the first one's bus is."""
        name = f"node-{index + 1}"
        arguments = ["--name", name, "--data-dir", str(folder / name)]
        for flag, port in (("--port", self.port), ("--bus-port", self.bus_port)):
            arguments += [flag, str(port and port + index)]
        return arguments + (["--peer", peer] if peer else []) + list(self.flags)


def read(argv: Sequence[str], environment: Mapping[str, str]) -> Plan:
    """What a command line asks for. Raises Usage."""
    if not argv or not argv[0].isdecimal() or not 1 <= int(argv[0]) <= MOST:
        raise Usage(f"the first argument is the number of nodes, 1 to {MOST} (see --help)")
    own, flags = _apart(argv[1:])
    given = [flag.partition("=")[0] for flag in flags]
    if "--name" in given:
        raise Usage("--name: the nodes are called node-1 and so on")
    if "--models-dir" not in given and not environment.get("EXO_MODELS_DIR"):
        flags += ["--models-dir", str(DEFAULT_DATA_DIR / "models")]
    if "--no-mdns" not in given and not environment.get("EXO_NO_MDNS"):
        flags.append("--no-mdns")
    try:
        return Plan(
            count=int(argv[0]),
            folder=convert.path(own["--data-dir"]) if "--data-dir" in own else None,
            port=convert.port(own.get("--port", "0")),
            bus_port=convert.port(own.get("--bus-port", "0")),
            flags=tuple(flags),
        )
    except ValueError as error:
        raise Usage(str(error)) from error


def _apart(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """What is each node's own, and what goes to all."""
    own: dict[str, str] = {}
    others: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        flag, equals, value = argument.partition("=")
        if flag not in OWN_FLAGS:
            others.append(argument)
            continue
        own[flag] = value if equals else next(rest, "")
        if not own[flag]:
            raise Usage(f"{flag} needs a value")
    return own, others


class NodeProcess:
    """One node from its start to its end; what it says on standard error goes to ours, behind its name."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self._process = process
        self._url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.ended = asyncio.create_task(self._follow(), name=name)

    @classmethod
    async def start(
        cls, name: str, command: Sequence[str], arguments: Sequence[str], environment: Mapping[str, str]
    ) -> Self:
        """Start it, without waiting until it serves."""
        process = await asyncio.create_subprocess_exec(
            *command,
            *arguments,
            env=environment,
            limit=LONGEST_LINE,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            # Ctrl-C reaches all processes of the terminal's group: these are to be stopped by us, once.
            start_new_session=True,
        )
        return cls(name, process)

    async def serves(self) -> str:
        """Its address once it serves; empty if it ended before."""
        return await asyncio.shield(self._url)

    async def _follow(self) -> int:
        """Until it has ended; returns its exit code."""
        await asyncio.gather(self._read_addresses(), self._pass_on())
        return await self._process.wait()

    async def _read_addresses(self) -> None:
        assert self._process.stdout is not None
        line = (await self._process.stdout.readline()).decode(errors="replace").strip()
        self._url.set_result(line)
        while await self._process.stdout.readline():
            pass

    async def _pass_on(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            tell(f"{self.name}: {line.decode(errors='replace').rstrip()}")

    def send(self, number: signal.Signals) -> None:
        """To the node alone, which ends its engines; SIGKILL goes to them as well."""
        with suppress(ProcessLookupError):
            if number is signal.SIGKILL:
                os.killpg(self._process.pid, number)
            elif self._process.returncode is None:
                self._process.send_signal(number)


class Cluster:
    """All nodes, from the first one's start until the last one's end."""

    def __init__(self, plan: Plan, folder: Path, command: Sequence[str]) -> None:
        self._plan, self._folder, self._command = plan, folder, command
        self._nodes: list[NodeProcess] = []
        self._stopping = False
        self._watching: list[asyncio.Task[None]] = []

    async def run(self) -> int:
        """Start all, and wait until all have ended by themselves; returns the exit code for that."""
        first = await self._start(0, None)
        if url := await first.serves():
            print(url, flush=True)
            peer = await bus_address(url) if self._plan.count > 1 else None
            for node in [await self._start(index, peer) for index in range(1, self._plan.count)]:
                if url := await node.serves():
                    print(url, flush=True)
        await asyncio.wait([node.ended for node in self._nodes])
        await asyncio.gather(*self._watching)
        codes = [node.ended.result() for node in self._nodes]
        return codes[0] if len(codes) == 1 and codes[0] > 0 else 1

    async def stop(self) -> None:
        """Stop all at once: in good order, or else by force."""
        self._stopping = True
        for node in self._nodes:
            node.send(signal.SIGTERM)
        ends = [node.ended for node in self._nodes]
        late = (await asyncio.wait(ends, timeout=STOP_S))[1] if ends else set()
        for node in self._nodes:
            if node.ended in late:
                tell(f"cluster: {node.name} did not stop within {STOP_S:g} s and is killed")
                node.send(signal.SIGKILL)
        await asyncio.gather(*ends, *self._watching)

    def kill(self) -> None:
        """Who asks twice does not want to wait."""
        for node in self._nodes:
            node.send(signal.SIGKILL)

    async def _start(self, index: int, peer: str | None) -> NodeProcess:
        arguments = self._plan.arguments(index, self._folder, peer)
        # Several nodes that each computed with all cores would only fight over them.
        threads = str(max(1, (os.cpu_count() or 1) // self._plan.count))
        environment = {"OPENBLAS_NUM_THREADS": threads, **os.environ}
        node = await NodeProcess.start(f"node-{index + 1}", self._command, arguments, environment)
        self._nodes.append(node)
        self._watching.append(asyncio.create_task(self._watch(node)))
        return node

    async def _watch(self, node: NodeProcess) -> None:
        code = await node.ended
        if not self._stopping:
            how = f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
            tell(f"cluster: {node.name} ended by itself ({how})")


async def bus_address(url: str) -> str:
    """HOST:PORT of a node's bus, as its facts say it; raises TimeoutError or aiohttp.ClientError."""
    async with asyncio.timeout(ADDRESS_S), aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{url}/v1/cluster") as response:
                cluster = await response.json()
            for node in cluster["nodes"]:
                if node["id"] == cluster["node"] and node["address"]:
                    return str(node["address"])
            await asyncio.sleep(LOOK_S)


def tell(line: str) -> None:
    """Standard output is for addresses."""
    print(line, file=sys.stderr, flush=True)


async def serve(plan: Plan, command: Sequence[str]) -> int:
    """Run a cluster until SIGINT or SIGTERM (0), or until all its nodes have ended (else)."""
    with ExitStack() as stack:
        folder = plan.folder
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=TEMPORARY)))
        cluster, stopping = Cluster(with_key(plan, folder), folder, command), asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, _asked_to_stop, cluster, stopping)
        running, asked = asyncio.create_task(cluster.run()), asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait((running, asked), return_when=asyncio.FIRST_COMPLETED)
            return running.result() if running.done() else 0
        finally:
            running.cancel()
            asked.cancel()
            await asyncio.wait((running, asked))
            await cluster.stop()


def _asked_to_stop(cluster: Cluster, stopping: asyncio.Event) -> None:
    if stopping.is_set():  # asked twice: whoever asks does not want to wait
        cluster.kill()
    stopping.set()


def with_key(plan: Plan, folder: Path) -> Plan:
    """The plan with a key that all nodes have, made in the folder unless they are given one."""
    given = {flag.partition("=")[0] for flag in plan.flags}
    if "--cluster-key" in given or os.environ.get("EXO_CLUSTER_KEY"):
        return plan
    cluster_key(None, folder)
    return replace(plan, flags=(*plan.flags, "--cluster-key", str(folder / KEY_FILE)))


def main(argv: Sequence[str]) -> int:
    """The exit code: 0 stopped as asked, 2 wrong usage, 1 anything else."""
    if "--help" in argv or "-h" in argv:
        print(USAGE, end="")
        return 0
    try:
        plan = read(argv, os.environ)
        return asyncio.run(serve(plan, (sys.executable, "-m", "exo_actors")))
    except Usage as error:
        tell(f"cluster: {error}")
        return 2
    except (KeyFileError, OSError, TimeoutError, aiohttp.ClientError) as error:
        tell(f"cluster: {str(error) or type(error).__name__}")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
