"""The limits of the bus, and ZeroMQ sockets that keep them: queues, sizes, heartbeats, lingering."""

from dataclasses import dataclass, field, replace
from typing import Final

import zmq

from bus.backoff import Backoff
from bus.codec import MESSAGE_LIMIT

FRAME_LIMIT: Final = 2 * MESSAGE_LIMIT
"""Bytes. ZeroMQ ends the connection that brings a larger frame; between the two limits the codec counts."""


@dataclass(frozen=True)
class Limits:
    """How much may wait, and how long. ZeroMQ's own defaults know no end for most of these."""

    commands: int = 10_000
    """Messages queued to, and from, each peer of a ROUTER or DEALER. At 100 steps a second and 100 kB/s
    this is far more than a peer that lives ever needs; one that is stuck costs about 10 MB."""
    facts: int = 1_000
    """The same for each subscriber: what is dropped is mended."""
    heartbeat_ms: int = 300
    silence_ms: int = 1_200
    """A peer that answers no heartbeat for so long is disconnected; one that died is, at once. Heartbeats are
    answered by ZeroMQ's own thread: they show that host and process are there, not that the process gets
    anywhere. They queue behind messages, so that a peer which reads nothing falls silent too when its queue
    is full."""
    engine_silence_ms: int = 3_000
    """The same for a node's own engines: they share a machine that may be busy for a second or two, and
    starting one again takes longer than that. Their beats are watched as well."""
    reconnect_ms: int = 20
    reconnect_at_most_ms: int = 1_000
    handshake_ms: int = 5_000
    beat_s: float = 0.5
    """How often a publisher says how far it is: a lost update goes unseen no longer than this."""
    kept: int = 1_000
    """Updates that a publisher can repeat one by one; a reader further behind gets a snapshot."""
    patience: Backoff = field(default_factory=lambda: Backoff(first_s=0.25, longest_s=5.0))
    """How long a reader waits for the answer to a question before it asks again."""
    gone_s: float = 0.4
    """A node whose connection ended and was not made anew for so long has left: its process ended."""
    silence_s: float = 3.25
    """So has one that was not heard for so long; each says something with every beat."""
    dial_s: float = 5.0
    """How long a node may take to answer a call, before it is called again."""
    dial: Backoff = field(default_factory=lambda: Backoff(first_s=0.2, longest_s=5.0))
    """How long to wait before a node that did not answer is called again."""
    gossip_s: float = 2.0
    """How often a node asks one other whom it knows."""
    found_s: float = 300.0
    """How long a node that was found, rather than named by a person, is called without an answer."""


DEFAULTS: Final = Limits()

OF_AN_ENGINE: Final = replace(DEFAULTS, heartbeat_ms=0)
"""An engine asks not whether its node lives: a pipe tells it of the node's death, and a node that stood still
for a moment must not find its engines gone."""


def open_socket(
    context: zmq.Context[zmq.Socket[bytes]], kind: zmq.SocketType, limits: Limits
) -> zmq.Socket[bytes]:
    """A socket that can be bound or connected; limits count only when set before that."""
    socket = context.socket(kind)
    facts = kind in (zmq.XPUB, zmq.SUB)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, limits.facts if facts else limits.commands)
    socket.setsockopt(zmq.RCVHWM, limits.facts if facts else limits.commands)
    socket.setsockopt(zmq.MAXMSGSIZE, FRAME_LIMIT)
    socket.setsockopt(zmq.HEARTBEAT_IVL, limits.heartbeat_ms)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, limits.silence_ms)
    socket.setsockopt(zmq.RECONNECT_IVL, limits.reconnect_ms)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, limits.reconnect_at_most_ms)
    socket.setsockopt(zmq.HANDSHAKE_IVL, limits.handshake_ms)
    return socket


def bind(socket: zmq.Socket[bytes], host: str, port: int = 0) -> str:
    """Bind to a TCP port, 0: a free one; returns the endpoint. Raises OSError, with the socket closed."""
    try:
        socket.bind(f"tcp://{host}:{port or '*'}")
    except zmq.ZMQError as error:
        socket.close()
        raise OSError(error.errno, _cannot_listen(host, port, error)) from error
    return socket.getsockopt_string(zmq.LAST_ENDPOINT)


def _cannot_listen(host: str, port: int, error: zmq.ZMQError) -> str:
    if error.errno == zmq.EADDRINUSE:
        advice = "Another program has this port: choose one with --bus-port; 0 is any free one."
        return f"The bus cannot listen on {host}:{port}: {error.strerror}. {advice}"
    return f"The bus cannot listen on {host}: {error.strerror}. It must be an address of this machine."


def connect(socket: zmq.Socket[bytes], endpoint: str) -> None:
    """Connect, now or as soon as somebody listens there. Raises ValueError, with the socket closed."""
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        socket.close()
        raise ValueError(f"{endpoint!r} is no endpoint of a bus, like tcp://127.0.0.1:5555") from error
