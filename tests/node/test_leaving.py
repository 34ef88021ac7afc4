"""A client that leaves, however and whenever, costs nothing more: its request is gone and the engine idle."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from bus.messages.facts import RequestFact, RequestState
from exo_actors.node import Node
from scripts.make_model import make_model
from tests.api.raw import Connection, connected
from tests.node.nodes import idle, ready, running, settings, until, until_withdrawn

SLOW = "slow"
LONG_PROMPT = "once upon a time " * 1000


@pytest.fixture(scope="module")
def slow_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose prefill of a long prompt takes so long that a test can look on."""
    folder = tmp_path_factory.mktemp("models")
    make_model("llama", folder / SLOW, layers=8, hidden=256, context=16384)
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory, slow_models: Path) -> AsyncIterator[Node]:
    async with running(settings(tmp_path_factory.mktemp("data"), slow_models, SLOW)) as node:
        await ready(node, SLOW)
        yield node


def body(prompt: str, *, stream: bool) -> bytes:
    return json.dumps({"model": SLOW, "prompt": prompt, "stream": stream, "ignore_eos": True}).encode()


def close(connection: Connection) -> None:
    connection.writer.close()


def reset(connection: Connection) -> None:
    connection.reset()


@pytest.mark.parametrize("leave", [close, reset])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("state", "prompt"), [(RequestState.PREFILL, LONG_PROMPT), (RequestState.DECODE, "hello")]
)
@pytest.mark.asyncio(loop_scope="module")
async def test_who_leaves_in_prefill_or_decode_is_cancelled(
    node: Node, state: RequestState, prompt: str, stream: bool, leave: Callable[[Connection], None]
) -> None:
    async with connected(node.url) as connection:
        await connection.send("POST", "/v1/completions", body(prompt, stream=stream))
        fact = await until(node.bus.view, RequestFact, lambda fact: fact.state is state)
        leave(connection)
        await until_withdrawn(node.bus.view, f"request/{fact.id}")
    await idle(node, SLOW)


@pytest.mark.parametrize("stream", [True, False])
async def test_who_leaves_while_the_model_loads_is_cancelled_before_it_was_begun(
    tmp_path: Path, slow_models: Path, stream: bool
) -> None:
    async with running(settings(tmp_path, slow_models, SLOW)) as node:
        async with connected(node.url) as connection:
            await connection.send("POST", "/v1/completions", body("hello", stream=stream))
            fact = await until(node.bus.view, RequestFact, lambda fact: fact.state is RequestState.WAITING)
            close(connection)
            await until_withdrawn(node.bus.view, f"request/{fact.id}")
        await ready(node, SLOW)
        assert (await idle(node, SLOW)).tokens_per_s == 0
