"""What a node is told about its cluster, and what it knows of each other node there."""

from dataclasses import dataclass, field
from typing import NamedTuple

from bus.messages.base import NodeId
from bus.messages.peers import Greeting


@dataclass(frozen=True, slots=True)
class Cluster:
    """How this node takes part in a cluster."""

    secret: str = field(repr=False)
    """Its members know each other by it."""
    listen: str
    """The address on which other nodes reach this one."""
    port: int
    """Its TCP port; 0: any free one."""
    peers: tuple[str, ...]
    """HOST:PORT of nodes that a person named: they are called until they answer."""
    mdns: bool
    """Find others on the local network, and be found."""
    name: str
    version: str
    started_at: float
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Member:
    """Another node of the cluster, whose facts are all here."""

    id: NodeId
    name: str
    version: str
    started_at: float
    address: str
    """HOST:PORT at which it was reached."""


class Address(NamedTuple):
    """Where a node is to be called."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def endpoint(self) -> str:
        """For ZeroMQ, which is to be given no names: it would look them up in the thread that sends."""
        return f"tcp://{self.host}:{self.port}"


def parse(address: str) -> Address:
    """Read HOST:PORT. Raises ValueError.

    >>> parse("attic.local:52416")
    Address(host='attic.local', port=52416)
    """
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
        raise ValueError(f"{address!r} is no address of a node: HOST:PORT, like 192.168.1.20:52416")
    return Address(host, int(port))


def objection(ours: Greeting, theirs: Greeting) -> str:
    """Why two nodes can't work together, and what to do; empty: they can.

    >>> one = Greeting(NodeId("1"), "attic", "0.1", 0.0, 1, 2, protocol=1)
    >>> other = Greeting(NodeId("2"), "cellar", "0.2", 0.0, 1, 2, protocol=2)
    >>> objection(one, other)
    'node cellar speaks protocol 2, node attic 1: update exo_actors on attic'
    """
    if theirs.protocol == ours.protocol:
        return ""
    older = ours if ours.protocol < theirs.protocol else theirs
    return (
        f"node {theirs.name} speaks protocol {theirs.protocol}, node {ours.name} {ours.protocol}: "
        f"update exo_actors on {older.name}"
    )


def same_id(theirs: Greeting) -> str:
    """Two processes claim one node id, and what to do."""
    return (
        f"node {theirs.name} has the id of another node that runs, {theirs.node}: "
        "give each node a data directory of its own, and start it again"
    )
