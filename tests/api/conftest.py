"""A scripted gateway with a real server in front of it, and the official client at its strictest."""

from collections.abc import AsyncIterator

import pytest
from openai import AsyncOpenAI

from tests.api.scripted import ScriptedGateway, serving


@pytest.fixture
def gateway() -> ScriptedGateway:
    return ScriptedGateway()


@pytest.fixture
async def url(gateway: ScriptedGateway) -> AsyncIterator[str]:
    async with serving(gateway) as address:
        yield address


def official(url: str, strict: bool) -> AsyncOpenAI:
    return AsyncOpenAI(
        base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=20, _strict_response_validation=strict
    )


@pytest.fixture
async def client(url: str) -> AsyncIterator[AsyncOpenAI]:
    async with official(url, strict=True) as strict:
        yield strict


@pytest.fixture
async def lenient(url: str) -> AsyncIterator[AsyncOpenAI]:
    """For streams of plain completions: their `finish_reason` is null until the last chunk, as at OpenAI,
    and the client's type for it knows no null."""
    async with official(url, strict=False) as client:
        yield client
