"""`python -m exo_actors watch`: prints what passes on a running node's bus, read without its types."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial

import zmq
from zmq.utils.monitor import recv_monitor_message

from exo_actors import console, traffic

TOPICS = (b"fact", b"passed")
ANSWER_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_MS = 5000

Show = Callable[[str], None]

print_now: Show = partial(print, flush=True)
"""Through a pipe too, a line is there when it passes."""


class NodeGone(Exception):
    """The node is not there or not there any more; the message is for a person."""


def watch(url: str, show: Show = print_now) -> int:
    """Print until Ctrl-C or until the node is gone; returns the exit code."""
    try:
        follow(facts_endpoint(url), show)
    except KeyboardInterrupt:
        return 0
    except NodeGone as gone:
        console.fail(f"{url}: {gone}")
    return 1


def facts_endpoint(url: str) -> str:
    """Where the node's facts can be subscribed to, as its API says; raises NodeGone."""
    try:
        with urllib.request.urlopen(f"{url}/v1/cluster", timeout=ANSWER_TIMEOUT_S) as answer:
            cluster: object = json.load(answer)
    except urllib.error.HTTPError as error:
        raise NodeGone(f"answers {error.code} to /v1/cluster, so it is no node of exo_actors") from error
    except OSError as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise NodeGone(f"no node answers ({reason}); start one with scripts/run, or give --node") from error
    except ValueError as error:
        raise NodeGone("/v1/cluster is not JSON, so it is no node of exo_actors") from error
    match cluster:
        case {"bus": {"facts_endpoint": str(endpoint)}} if endpoint:
            return endpoint
        case _:
            raise NodeGone("/v1/cluster names no bus, so it is no node of exo_actors")


def follow(endpoint: str, show: Show) -> None:
    """Show every message until the publisher goes away, which raises NodeGone."""
    with _subscription(endpoint) as (facts, monitor):
        poller = zmq.Poller()
        poller.register(facts, zmq.POLLIN)
        poller.register(monitor, zmq.POLLIN)
        connected = False
        while True:
            ready = dict(poller.poll(None if connected else CONNECT_TIMEOUT_MS))
            event = recv_monitor_message(monitor)["event"] if monitor in ready else None
            _drain(facts, show)
            if event == zmq.EVENT_DISCONNECTED:
                raise NodeGone("the node is gone")
            if not ready:
                raise NodeGone(f"its bus at {endpoint} does not answer")
            connected = True


@contextmanager
def _subscription(endpoint: str) -> Iterator[tuple[zmq.Socket[bytes], zmq.Socket[bytes]]]:
    """A socket with the node's facts, and one that tells how its connection is."""
    with zmq.Context() as context, context.socket(zmq.SUB) as facts:
        facts.linger = 0
        monitor = facts.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        try:
            for topic in TOPICS:
                facts.subscribe(topic)
            facts.connect(endpoint)
            yield facts, monitor
        finally:
            facts.disable_monitor()
            monitor.close(linger=0)


def _drain(facts: zmq.Socket[bytes], show: Show) -> None:
    """Show everything that waits in the socket: what came before a disconnect counts."""
    while True:
        try:
            frames = facts.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return
        show(traffic.line(frames[0], b"".join(frames[1:]), datetime.now()))
