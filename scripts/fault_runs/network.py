"""Where a cluster's nodes live: on loopback, or each in a network namespace whose link can be cut.

In a namespace a node has two links: one to a bridge that all nodes share, for the bus, and one to this
process, for its API. Cutting the first leaves its own clients connected, as they would be on that machine.
"""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import count, islice
from typing import Protocol

BUS_PORT = 52500
FIRST_PORT = 20000
"""Below what Linux and macOS hand out by themselves: a node that is started again finds its port free."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one node lives."""

    prefix: tuple[str, ...]
    """What its command line begins with."""
    host: str
    """For its API, as this process reaches it."""
    listen: str
    bus_port: int


class Network(Protocol):
    """Places for nodes."""

    @property
    def places(self) -> Sequence[Place]: ...

    def cut(self, index: int) -> None:
        """Nothing passes between this place and the others."""
        ...

    def mend(self, index: int) -> None: ...

    def close(self) -> None: ...


class Loopback:
    """All nodes on this machine's loopback."""

    def __init__(self, nodes: int) -> None:
        ports = islice(_free_ports(), nodes)
        self.places = [Place((), "127.0.0.1", "127.0.0.1", port) for port in ports]

    def cut(self, index: int) -> None:
        raise RuntimeError("loopback can't be cut: such a run is not drawn without namespaces")

    def mend(self, index: int) -> None:
        """There is nothing to mend."""

    def close(self) -> None:
        """There is nothing to take down."""


class Namespaces:
    """Each node in a namespace of its own; needs root, on Linux."""

    def __init__(self, nodes: int) -> None:
        self._mark = f"xf{os.getpid() % 100000}"
        self._nodes = nodes
        subnet = os.getpid() % 200
        self.places = [
            Place(
                ("ip", "netns", "exec", self._space(index)),
                f"10.{subnet}.{100 + index}.2",
                f"10.{subnet}.1.{index + 1}",
                BUS_PORT,
            )
            for index in range(nodes)
        ]
        try:
            self._build()
        except subprocess.CalledProcessError:
            self.close()
            raise

    def cut(self, index: int) -> None:
        _ip("link", "set", self._link(index), "down")

    def mend(self, index: int) -> None:
        _ip("link", "set", self._link(index), "up")

    def close(self) -> None:
        """Takes the links with it; what still runs in a namespace keeps it alive, but unreachable."""
        for index in range(self._nodes):
            with suppress(subprocess.CalledProcessError):
                _ip("netns", "delete", self._space(index))
        with suppress(subprocess.CalledProcessError):
            _ip("link", "delete", f"{self._mark}b")

    def _build(self) -> None:
        bridge = f"{self._mark}b"
        _ip("link", "add", bridge, "type", "bridge")
        _ip("link", "set", bridge, "up")
        for index, place in enumerate(self.places):
            space, bus, api = self._space(index), self._link(index), f"{self._mark}a{index}"
            gateway = place.host.rpartition(".")[0] + ".1"
            _ip("netns", "add", space)
            _ip("link", "add", bus, "type", "veth", "peer", "name", "bus", "netns", space)
            _ip("link", "set", bus, "master", bridge, "up")
            _ip("-n", space, "addr", "add", f"{place.listen}/24", "dev", "bus")
            _ip("link", "add", api, "type", "veth", "peer", "name", "api", "netns", space)
            _ip("addr", "add", f"{gateway}/24", "dev", api)
            _ip("link", "set", api, "up")
            _ip("-n", space, "addr", "add", f"{place.host}/24", "dev", "api")
            for device in ("lo", "bus", "api"):
                _ip("-n", space, "link", "set", device, "up")

    def _space(self, index: int) -> str:
        return f"{self._mark}n{index}"

    def _link(self, index: int) -> str:
        return f"{self._mark}l{index}"


def why_no_namespaces() -> str:
    """Why links can't be cut here; empty: they can."""
    if sys.platform != "linux" or shutil.which("ip") is None:
        return "this system has no `ip netns`"
    if os.geteuid() != 0:
        return "network namespaces need root"
    try:
        Namespaces(1).close()
    except subprocess.CalledProcessError as error:
        return f"`{' '.join(map(str, error.cmd))}` says: {error.stderr.strip()}"
    return ""


def _ip(*arguments: str) -> None:
    subprocess.run(("ip", *arguments), check=True, capture_output=True, text=True)


def _free_ports() -> Iterator[int]:
    for port in count(FIRST_PORT + os.getpid() % 5000):
        with closing(socket.socket()) as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            yield port
