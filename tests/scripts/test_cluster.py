"""`scripts/cluster N`: several nodes that are one cluster, from the first address to the last process."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil
import pytest

from scripts.cluster_of import Plan, Usage, main, read

ROOT = Path(__file__).parents[2]
MOMENTS_S = 60.0
FOLDERS = ("--models-dir", "/models")

STAND_IN = """
import http.server, json, os, signal, sys
name, folder = sys.argv[sys.argv.index("--name") + 1], sys.argv[sys.argv.index("--data-dir") + 1]
os.makedirs(folder)
json.dump({"arguments": sys.argv[1:], "pid": os.getpid()}, open(folder + "/started", "w"))
if name == os.environ.get("BROKEN"):
    sys.exit("can't start")
if os.environ.get("STUBBORN"):
    signal.signal(signal.SIGTERM, lambda *_: print("no", file=sys.stderr, flush=True))
else:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
class Facts(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{"node": "1", "nodes": [{"id": "1", "address": "127.0.0.1:777"}]}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
server = http.server.HTTPServer(("127.0.0.1", 0), Facts)
print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
print("up", file=sys.stderr, flush=True)
server.serve_forever()
"""
"""What a node looks like from outside, with nothing in it."""

WITH_STAND_INS = """
import asyncio, os, sys
from scripts.cluster_of import read, serve
sys.exit(asyncio.run(serve(read(sys.argv[2:], os.environ), (sys.executable, sys.argv[1]))))
"""


@dataclass
class Running:
    """The script as somebody in a terminal has it."""

    process: asyncio.subprocess.Process
    folder: Path

    async def address(self) -> str:
        assert self.process.stdout is not None
        async with asyncio.timeout(MOMENTS_S):
            return (await self.process.stdout.readline()).decode().strip()

    async def told(self, words: str) -> str:
        """Read its standard error up to the line with these words."""
        assert self.process.stderr is not None
        async with asyncio.timeout(MOMENTS_S):
            async for line in self.process.stderr:
                if words in line.decode():
                    return line.decode()
        raise AssertionError(f"it ended without saying {words!r}")

    async def ends(self) -> int:
        async with asyncio.timeout(MOMENTS_S):
            await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode

    def started(self, name: str) -> tuple[list[str], int]:
        """The command line of a stand-in, and its process."""
        said = json.loads((self.folder / name / "started").read_text())
        return said["arguments"], said["pid"]


@asynccontextmanager
async def running(
    folder: Path, *command: str, environment: dict[str, str] | None = None
) -> AsyncIterator[Running]:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"} | (environment or {}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Running(process, folder)
    finally:
        if process.returncode is None:
            family = psutil.Process(process.pid).children(recursive=True)
            for each in family:
                each.kill()
            process.kill()
        await process.communicate()


@asynccontextmanager
async def stand_ins(folder: Path, count: int, *flags: str, **environment: str) -> AsyncIterator[Running]:
    """The script with nodes of no substance."""
    node = folder / "stand_in.py"
    node.write_text(STAND_IN)
    command = (sys.executable, "-c", WITH_STAND_INS, str(node), str(count), "--data-dir", str(folder))
    async with running(folder, *command, *flags, environment=environment) as script:
        yield script


# -- the command line ----------------------------------------------------------------------------


def test_flags_that_are_not_the_script_s_own_go_to_every_node() -> None:
    plan = read(["3", "--model", "a", "--offline", *FOLDERS], {})
    assert plan == Plan(3, None, 0, 0, ("--model", "a", "--offline", *FOLDERS, "--no-mdns"))


def test_each_node_has_its_own_name_folder_and_ports() -> None:
    plan = read(["2", "--port=8000", "--bus-port", "9000", "--data-dir", "/data", *FOLDERS], {})
    assert plan.folder == Path("/data")
    assert plan.arguments(1, Path("/data"), "127.0.0.1:9000") == [
        *("--name", "node-2", "--data-dir", "/data/node-2", "--port", "8001", "--bus-port", "9001"),
        *("--peer", "127.0.0.1:9000", *FOLDERS, "--no-mdns"),
    ]


def test_any_free_ports_are_taken_unless_told_otherwise() -> None:
    arguments = read(["2"], {}).arguments(1, Path("/data"), None)
    assert arguments[arguments.index("--port") + 1] == "0"
    assert arguments[arguments.index("--bus-port") + 1] == "0"


def test_the_environment_counts_where_there_is_no_flag() -> None:
    environment = {"EXO_MODELS_DIR": "/models", "EXO_NO_MDNS": "0"}
    assert read(["2"], environment).flags == ()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "number of nodes"),
        ("0", "number of nodes"),
        ("65", "number of nodes"),
        ("--port 1", "number of nodes"),
        ("2 --name attic", "--name"),
        ("2 --port", "--port needs a value"),
        ("2 --port x", "'x' is not a port"),
    ],
)
def test_wrong_usage_is_said_in_one_line(line: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Usage, match=words):
        read(line.split(), {})
    assert main(line.split()) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_help_says_how_to_use_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "scripts/cluster N" in capsys.readouterr().out


# -- from start to stop --------------------------------------------------------------------------


async def test_all_are_given_one_key_and_the_first_one_s_address(tmp_path: Path) -> None:
    async with stand_ins(tmp_path, 3, "--offline") as script:
        addresses = [await script.address() for _ in range(3)]
        assert len(set(addresses)) == 3
        script.process.send_signal(signal.SIGINT)
        assert await script.ends() == 0
    first, second, third = (script.started(f"node-{number}")[0] for number in (1, 2, 3))
    assert "--peer" not in first
    for arguments in (second, third):
        assert arguments[arguments.index("--peer") + 1] == "127.0.0.1:777"
    keys = {arguments[arguments.index("--cluster-key") + 1] for arguments in (first, second, third)}
    assert keys == {str(tmp_path / "cluster.key")}


async def test_a_key_that_is_given_is_given_to_all(tmp_path: Path) -> None:
    async with stand_ins(tmp_path, 1, "--cluster-key", "one of my own making") as script:
        await script.address()
        script.process.send_signal(signal.SIGTERM)
        assert await script.ends() == 0
    assert script.started("node-1")[0].count("--cluster-key") == 1
    assert not (tmp_path / "cluster.key").exists()


async def test_a_node_that_ends_is_told_of_and_the_others_go_on(tmp_path: Path) -> None:
    async with stand_ins(tmp_path, 2) as script:
        for _ in range(2):
            await script.address()
        _, pid = script.started("node-2")
        os.kill(pid, signal.SIGKILL)
        assert "node-2 ended by itself (killed by SIGKILL)" in await script.told("cluster:")
        assert psutil.pid_exists(script.started("node-1")[1])
        script.process.send_signal(signal.SIGTERM)
        assert await script.ends() == 0


async def test_it_ends_when_all_nodes_have_ended(tmp_path: Path) -> None:
    async with stand_ins(tmp_path, 2) as script:
        for _ in range(2):
            await script.address()
        for name in ("node-1", "node-2"):
            os.kill(script.started(name)[1], signal.SIGKILL)
        assert await script.ends() == 1


async def test_a_cluster_whose_first_node_can_not_start_ends_and_says_why(tmp_path: Path) -> None:
    async with stand_ins(tmp_path, 2, BROKEN="node-1") as script:
        assert "node-1: can't start" in await script.told("can't")
        assert await script.address() == ""
        assert await script.ends() == 1


async def test_a_further_node_that_can_not_start_is_left_out(tmp_path: Path) -> None:
    async with stand_ins(tmp_path, 3, BROKEN="node-2") as script:
        assert all([await script.address() for _ in range(2)])
        assert "node-2 ended by itself (exit code 1)" in await script.told("cluster:")
        script.process.send_signal(signal.SIGTERM)
        assert await script.ends() == 0


async def test_who_asks_twice_does_not_wait(tmp_path: Path) -> None:
    async with stand_ins(tmp_path, 1, STUBBORN="1") as script:
        await script.address()
        _, pid = script.started("node-1")
        script.process.send_signal(signal.SIGINT)
        await script.told("node-1: no")
        script.process.send_signal(signal.SIGINT)
        assert await script.ends() == 0
    assert not psutil.pid_exists(pid)


async def test_real_nodes_find_each_other_and_all_end(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "scripts.cluster_of", "3", "--offline", "--data-dir", str(tmp_path))
    async with running(tmp_path, *command, "--models-dir", str(tmp_path)) as script:
        urls = [await script.address() for _ in range(3)]
        for url in urls:
            assert await members(url, 3) == {"node-1", "node-2", "node-3"}
        family = psutil.Process(script.process.pid).children(recursive=True)
        script.process.send_signal(signal.SIGINT)
        assert await script.ends() == 0
    assert not [process for process in family if process.is_running()]


async def members(url: str, count: int) -> set[str]:
    """The names of the nodes that a node sees, once there are so many."""
    async with (
        asyncio.timeout(MOMENTS_S),
        aiohttp.ClientSession() as session,
        session.get(f"{url}/v1/cluster/events") as events,
    ):
        names: dict[str, str] = {}
        async for line in events.content:
            if not line.startswith(b"data: "):
                continue
            data = json.loads(line.removeprefix(b"data: "))
            known = data["nodes"] if "nodes" in data else [data["value"]] if data["kind"] == "node" else []
            names |= {node["id"]: node["name"] for node in known if node is not None}
            if len(names) == count:
                return set(names.values())
    raise AssertionError("the events never end")
