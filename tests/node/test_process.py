"""However a node ends, nothing of it is left: no engine, no socket, no file but its data."""

import asyncio
import signal
import sys
from pathlib import Path

import psutil
import pytest

from tests.node.conftest import TINY
from tests.node.nodes import engines, gone, process, serving


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_stops_the_node_and_its_engines_in_order(
    tmp_path: Path, models_dir: Path, number: signal.Signals
) -> None:
    async with process("--data-dir", str(tmp_path), "--models-dir", str(models_dir), "--model", TINY) as (
        node,
        url,
    ):
        await serving(url, TINY)
        children = engines(psutil.Process(node.pid))
        assert len(children) == 1
        node.send_signal(number)
        assert await node.wait() == 0
        await gone(children)


async def test_an_engine_whose_node_was_killed_ends_itself(tmp_path: Path, models_dir: Path) -> None:
    async with process("--data-dir", str(tmp_path), "--models-dir", str(models_dir), "--model", TINY) as (
        node,
        url,
    ):
        await serving(url, TINY)
        children = engines(psutil.Process(node.pid))
        node.kill()
        assert len(children) == 1
        await gone(children)


async def test_a_second_node_on_the_same_port_says_what_to_do(tmp_path: Path, models_dir: Path) -> None:
    async with process("--data-dir", str(tmp_path / "a"), "--models-dir", str(models_dir)) as (_, url):
        port = url.rpartition(":")[2]
        second = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "exo_actors", "--port", port, "--data-dir", str(tmp_path / "b")),
            stderr=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        _, said = await second.communicate()
        assert second.returncode == 1
        assert f"127.0.0.1:{port} is taken by another program".encode() in said
        assert b"choose another port" in said
