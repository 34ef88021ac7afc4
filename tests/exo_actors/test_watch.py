"""`watch` shows what a real publisher sends, and says when there is none."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue
from threading import Thread
from typing import IO

import msgspec
import pytest
import zmq

from bus.messages.base import ModelId, NodeId
from bus.messages.envelope import Passed
from bus.messages.facts import ModelFact, Update
from exo_actors import watch

FACT = ModelFact(
    id=ModelId("guide"),
    node=NodeId("n1"),
    path="/models/guide",
    size_bytes=8,
    architecture="llama",
    context=512,
    created_at=0.0,
)
UPDATE = msgspec.msgpack.encode(Update(session="s", number=7, key="model/n1/guide", fact=FACT))
PASSED = msgspec.msgpack.encode(Passed(peer="engine", outgoing=True, kind="Submit", size_bytes=99))


MOMENTS_S = 60.0
"""For what takes a moment, on a machine that is busy with other things."""


@contextmanager
def publisher() -> Iterator[tuple[zmq.Socket[bytes], str]]:
    """A bound socket with facts, and its endpoint."""
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.linger = 1000
        socket.bind("tcp://127.0.0.1:*")
        yield socket, socket.getsockopt_string(zmq.LAST_ENDPOINT)


def wait_for_subscriber(socket: zmq.Socket[bytes]) -> None:
    """Until somebody subscribed to both topics."""
    topics: set[bytes] = set()
    while topics != set(watch.TOPICS):
        assert socket.poll(int(MOMENTS_S * 1000)), "nobody subscribed"
        topics.add(socket.recv()[1:])


@contextmanager
def api(status: int, body: bytes) -> Iterator[str]:
    """An HTTP server that says the same to everything, and its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def cluster(endpoint: str) -> bytes:
    return json.dumps({"bus": {"facts_endpoint": endpoint}}).encode()


def test_every_message_is_one_line_until_the_node_is_gone() -> None:
    def publish() -> str:
        with publisher() as (socket, endpoint):
            endpoints.put(endpoint)
            wait_for_subscriber(socket)
            socket.send_multipart([b"fact", UPDATE])
            socket.send_multipart([b"other", b"never asked for"])
            socket.send_multipart([b"passed", PASSED])
            socket.send_multipart([b"fact", b"\xc1 is no MessagePack"])
        return endpoint

    endpoints: SimpleQueue[str] = SimpleQueue()
    lines: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        publishing = pool.submit(publish)
        with pytest.raises(watch.NodeGone, match="gone"):
            watch.follow(endpoints.get(timeout=MOMENTS_S), lines.append)
        publishing.result()
    update, passed, rubbish = lines
    assert "fact   Update session=s number=7 key=model/n1/guide fact={type=ModelFact id=guide" in update
    assert update.endswith(f"{len(UPDATE)} B")
    assert "passed Passed peer=engine outgoing=True kind=Submit size_bytes=99" in passed
    assert "not MessagePack" in rubbish


def test_a_bus_that_does_not_answer_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "CONNECT_TIMEOUT_MS", 100)
    with pytest.raises(watch.NodeGone, match="does not answer"):
        watch.follow("tcp://127.0.0.1:1", print)


def test_no_node_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert watch.watch("http://127.0.0.1:1") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "http://127.0.0.1:1: no node answers" in error


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b""),
        (200, b"<html>"),
        (200, b"\xff\xfe"),
        (200, b"[]"),
        (200, b'{"bus": {}}'),
        (200, cluster("")),
    ],
)
def test_another_server_is_not_taken_for_a_node(status: int, body: bytes) -> None:
    with api(status, body) as url, pytest.raises(watch.NodeGone, match="no node of exo_actors"):
        watch.facts_endpoint(url)


def _heed_ctrl_c() -> None:
    """What a shell starts in the background ignores SIGINT, and so would all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def watching() -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes], zmq.Socket[bytes]]]:
    """`watch` in a process of its own, what it prints, and the socket that it is subscribed to."""
    command = [sys.executable, "-m", "exo_actors", "watch"]
    with publisher() as (socket, endpoint), api(200, cluster(endpoint)) as url:
        environment = os.environ | {"EXO_NODE": url}
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, preexec_fn=_heed_ctrl_c
        ) as process:
            assert process.stdout is not None
            wait_for_subscriber(socket)
            socket.send_multipart([b"fact", UPDATE])
            yield process, process.stdout, socket


def test_ctrl_c_ends_it_well() -> None:
    with watching() as (process, printed, _):
        assert b"Update" in printed.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(MOMENTS_S) == 0


def test_a_reader_that_has_seen_enough_ends_it_well() -> None:
    with watching() as (process, printed, socket):
        assert b"Update" in printed.readline()
        printed.close()
        socket.send_multipart([b"fact", UPDATE])
        assert process.wait(MOMENTS_S) == 0
