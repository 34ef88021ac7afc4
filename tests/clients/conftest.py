"""One real node with the built-in model, for all the official clients."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from openai import AsyncOpenAI, OpenAI

ROOT = Path(__file__).parents[2]
MODEL = "guide"
STOP_S = 30.0


@pytest.fixture(scope="package")
def node(temp_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a node whose model answers."""
    data = tmp_path_factory.mktemp("clients")
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "exo_actors",
            "--port",
            "0",
            "--data-dir",
            str(data),
            "--offline",
            "--no-mdns",
            "--no-spare",
        ],
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert url.startswith("http"), "the node did not start"
            with official(url) as client:
                client.completions.create(model=MODEL, prompt="Hello", max_tokens=1)
            yield url
        finally:
            stop(process)


def stop(process: subprocess.Popen[str]) -> None:
    """As a service manager would; a node that does not heed it is a failure, but must not stay."""
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def official(url: str) -> OpenAI:
    """The client as a person would use it, but strict about what it reads."""
    return OpenAI(base_url=f"{url}/v1", api_key="none", timeout=60, _strict_response_validation=True)


@pytest.fixture
async def client(node: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=f"{node}/v1", api_key="none", max_retries=0, timeout=60, _strict_response_validation=True
    ) as strict:
        yield strict


@pytest.fixture
async def lenient(node: str) -> AsyncIterator[AsyncOpenAI]:
    """For streams of plain completions, whose null `finish_reason` the client's own type does not know."""
    async with AsyncOpenAI(base_url=f"{node}/v1", api_key="none", max_retries=0, timeout=60) as plain:
        yield plain
