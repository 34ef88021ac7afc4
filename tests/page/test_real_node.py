"""The page of a real node: chat with the built-in model, and both stop buttons."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Page, Route, expect

from tests.page.conftest import ONE_LOOP, show

pytestmark = ONE_LOOP

ROOT = Path(__file__).parents[2]


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def node_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """One node process for all tests, each of which leaves it idle; it must stop cleanly."""
    data = tmp_path_factory.mktemp("data")
    # No spare engine: it would start while a test is asked what it left behind.
    places = ("--port", "0", "--data-dir", str(data), "--offline", "--no-spare")
    command = (sys.executable, "-m", "exo_actors", *places)
    log = data / "terminal.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=output
        )
    assert process.stdout is not None
    try:
        url = (await process.stdout.readline()).decode().strip()
        assert url.startswith("http://127.0.0.1:"), log.read_text()
        await answer(url)  # what its engine starts is there before a test is asked what it left behind
        yield url
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()
    assert process.returncode == 0, log.read_text()


async def answer(url: str) -> None:
    """Have the model say a word: then it is ready."""
    body = {"model": "guide", "prompt": "Hello", "max_tokens": 1}
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        await session.post(f"{url}/v1/completions", json=body)


@pytest_asyncio.fixture(loop_scope="session")
async def live(page: Page, node_url: str) -> Page:
    """The node's page, once its model is ready."""
    await show(page, node_url, ".instance[data-phase=ready]")
    await expect(page.locator(".instance [data-slot=activity]")).to_have_text("idle")
    return page


async def ask(page: Page, text: str) -> None:
    """Type and send."""
    box = page.get_by_label("Message", exact=True)
    await box.fill(text)
    await box.press("Enter")


async def ask_without_end(page: Page) -> None:
    """Ask what is answered up to the end of the context, so that there is time to stop it."""

    async def endless(route: Route) -> None:
        body = json.loads(route.request.post_data or "{}")
        await route.continue_(post_data=json.dumps({**body, "ignore_eos": True}))

    await page.route("**/v1/chat/completions", endless)
    await ask(page, "Please tell me a very long story.")
    await expect(page.locator(".request[data-state=decode]")).to_have_count(1)
    await expect(page.locator(".instance [data-slot=activity]")).to_have_text("busy")


async def expect_idle(page: Page) -> None:
    """Nothing is computed for nobody."""
    await expect(page.locator(".request")).to_have_count(0)
    await expect(page.locator(".instance [data-slot=activity]")).to_have_text("idle")


async def test_the_built_in_model_answers_sensibly(live: Page) -> None:
    await ask(live, "What is exo_actors?")
    answer = live.locator(".turn.assistant")
    await expect(answer).to_have_attribute("data-state", "done")
    await expect(answer.locator(".prose").last).to_contain_text("your own machines")
    await expect(answer.locator(".stats")).to_contain_text("first token after")
    await expect_idle(live)


async def test_the_machine_and_the_model_are_shown(live: Page) -> None:
    await expect(live.locator(".node")).to_contain_text("this machine")
    await expect(live.locator(".node")).to_contain_text("free of")
    await expect(live.locator(".model")).to_contain_text("guide")
    await expect(live.locator(".model")).to_contain_text("built in")


async def test_the_chat_s_stop_button_makes_the_engine_idle(live: Page) -> None:
    await ask_without_end(live)
    await live.locator("#chat-send").click()
    await expect_idle(live)
    await expect(live.locator(".turn.assistant")).to_have_attribute("data-state", "stopped")


async def test_a_request_s_stop_button_makes_the_engine_idle(live: Page) -> None:
    await ask_without_end(live)
    await live.get_by_role("button", name="Stop request").click()
    await expect_idle(live)
    await expect(live.locator(".turn.assistant .problem")).to_contain_text("cancel")


async def test_a_page_that_is_closed_makes_the_engine_idle(live: Page, node_url: str) -> None:
    await ask_without_end(live)
    await live.goto("about:blank")
    await live.unroute_all()
    await live.goto(node_url)
    await expect(live.locator(".instance[data-phase=ready]")).to_have_count(1)
    await expect_idle(live)
