"""Debian's Chromium on a page of its own for each test, and the stand-in server that it shows."""

import os
import shutil
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Page, Request, async_playwright, expect

from tests.page.clusters import instance, model, node
from tests.page.standin import StandIn

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_MS = 20_000
ONE_LOOP = pytest.mark.asyncio(loop_scope="session")
"""For every test with a browser: it lives on the loop on which it was started."""

expect.set_options(timeout=PATIENCE_MS)


@pytest_asyncio.fixture(loop_scope="session", scope="package")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    """Skips where there is no Chromium. One for all tests: it takes seconds to start."""
    if shutil.which(CHROMIUM) is None:
        pytest.skip(f"{CHROMIUM} is missing: apt-get install chromium")
    async with async_playwright() as playwright:
        # It writes when it likes, so that no test is to be asked about its temporary files.
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=list(FLAGS),
            env={**os.environ, "TMPDIR": str(tmp_path_factory.mktemp("chromium"))},
        )
        await _warm_up(browser)
        yield browser
        await browser.close()


async def _warm_up(browser: Browser) -> None:
    """Have the browser start the processes that stay, before a test is asked what it left behind."""
    server = StandIn()
    await server.start()
    page = await browser.new_page()
    await page.goto(server.url)
    await expect(page.locator("#summary")).to_contain_text("machine")
    await page.close()
    await server.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser) -> AsyncIterator[Page]:
    """An empty tab; the test fails if its page has an error or asks anybody but its own server."""
    context = await browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(PATIENCE_MS)
    page = await context.new_page()
    faults: list[str] = []
    strangers: list[str] = []

    def note(message: ConsoleMessage) -> None:
        # A status that says no is logged by the browser itself; how the page takes it is what is tested.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            faults.append(message.text)

    def check(request: Request) -> None:
        if not request.url.startswith("http://127.0.0.1:"):
            strangers.append(request.url)

    page.on("console", note)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", check)
    yield page
    await context.close()
    assert faults == []
    assert strangers == []


@pytest_asyncio.fixture(loop_scope="session")
async def stand_in() -> AsyncIterator[StandIn]:
    """A cluster of one machine whose built-in model is ready."""
    server = StandIn()
    server.publish(node(), model(), instance())
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def status(page: Page, stand_in: StandIn) -> Page:
    """The page of the stand-in, with its first facts shown."""
    await show(page, stand_in.url, "#instances .instance")
    return page


async def show(page: Page, url: str, first: str) -> None:
    """Load a page, and wait until it shows exactly one of what it shows first."""
    await page.goto(url)
    wanted = page.locator(first)
    try:
        await expect(wanted).to_have_count(1)
    except AssertionError:
        # Chromium gives up what it is about to fetch (ERR_NETWORK_CHANGED), modules too, when an interface
        # comes or goes on this machine: with a container, a VPN, or the namespaces of other tests.
        await page.reload()
        await expect(wanted).to_have_count(1, timeout=3 * PATIENCE_MS)
