"""The leak fixture sees each kind of thing that a test can leave behind, and forgives what ends in time."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from actors.kernel.actor import ThreadActor
from tests.conftest import PATIENCE_S
from tests.leaks import Snapshot, left_behind


class Idle(ThreadActor[str]):
    def on_receive(self, message: str) -> None: ...


@contextmanager
def an_actor() -> Iterator[None]:
    ref = Idle.start()
    yield
    ref.stop()


@contextmanager
def a_thread() -> Iterator[None]:
    over = threading.Event()
    thread = threading.Thread(target=over.wait, name="left")
    thread.start()
    yield
    over.set()
    thread.join()


@contextmanager
def a_process() -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield
        process.kill()


@contextmanager
def a_socket() -> Iterator[None]:
    with socket.create_server(("127.0.0.1", 0)):
        yield


@contextmanager
def an_open_file() -> Iterator[None]:
    with Path(__file__).open():
        yield


@contextmanager
def a_temp_file() -> Iterator[None]:
    with tempfile.NamedTemporaryFile():
        yield


KINDS = {
    "actors": an_actor,
    "threads": a_thread,
    "processes": a_process,
    "sockets": a_socket,
    "open files": an_open_file,
    "temp files": a_temp_file,
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_left_behind_is_named(kind: str, temp_dir: Path) -> None:
    before = Snapshot.take(temp_dir)
    with KINDS[kind]():
        left = left_behind(before, temp_dir, patience_s=0)
    assert kind in [line.partition(":")[0] for line in left]
    assert left_behind(before, temp_dir, PATIENCE_S) == []


def test_what_is_just_ending_is_waited_for(temp_dir: Path) -> None:
    before = Snapshot.take(temp_dir)
    with ExitStack() as ending:
        ending.enter_context(a_thread())
        threading.Timer(0.05, ending.pop_all().close).start()
    assert left_behind(before, temp_dir, PATIENCE_S) == []


def test_what_was_there_before_is_nobody_s_leak(temp_dir: Path) -> None:
    with a_socket():
        before = Snapshot.take(temp_dir)
        assert left_behind(before, temp_dir, patience_s=0) == []
