"""What holds for every test: one BLAS thread, a temp folder of its own, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pykka
import pytest

from actors.kernel.loop import bind_loop
from tests.leaks import Snapshot, left_behind

# Read by OpenBLAS when it is loaded: several tests at once on few cores must not each take all of them.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# The same examples every time, and no measure of how long one takes: another test computes beside it.
hypothesis.settings.register_profile("suite", deadline=None, derandomize=True)
hypothesis.settings.load_profile("suite")

WHOLE = frozenset({"node", "scripts", "page", "clients", "engine"})
"""Folders of the tests that start whole nodes and engines."""

QUICK = Path(__file__).with_name("quick")

PATIENCE_S = 10.0
"""How long what a test started may take to end after it."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="what `scripts/test-long` runs besides")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first: of two that run at a time, the last one has nothing beside it."""
    items.sort(key=lambda item: item.path.parent.name not in WHOLE)


def pytest_collection_finish() -> None:
    """What was imported and collected stays: a search for garbage that looks at it too takes a second."""
    gc.collect()
    gc.freeze()
    gc.collect()  # how seldom all is looked at depends on how much that was the last time


@pytest.fixture
def long(request: pytest.FixtureRequest) -> None:
    """Skips a test that takes too long for every run."""
    if not request.config.getoption("--long"):
        pytest.skip("scripts/test-long runs it")


@pytest.fixture(scope="session")
def temp_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where `tempfile`, of the tests and of the processes that they start, makes its files: ours alone."""
    path = tmp_path_factory.mktemp("temp", numbered=False)
    compiled = Path(
        tempfile.gettempdir(), "mlx"
    )  # MLX keeps the kernels that it compiles: share, don't repeat
    compiled.mkdir(exist_ok=True)
    (path / compiled.name).symlink_to(compiled)
    before, tempfile.tempdir = tempfile.tempdir, str(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(path))
        yield path
    tempfile.tempdir = before


@pytest.fixture(scope="session", autouse=True)
def _quick_starts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Engines start in half of the time: see `tests/quick`."""
    path = [str(QUICK), *filter(None, [os.environ.get("PYTHONPATH")])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path))
        patch.setenv("EXO_TESTS_QUICK", str(tmp_path_factory.mktemp("quick")))
        yield


@pytest.fixture(autouse=True)
def _leaves_nothing_behind(temp_dir: Path) -> Iterator[None]:
    before = Snapshot.take(temp_dir)
    yield
    left = left_behind(before, temp_dir, PATIENCE_S)
    if left:
        pytest.fail("the test left behind:\n" + "\n".join(left), pytrace=False)


@pytest.fixture
async def bound_loop() -> AsyncIterator[asyncio.AbstractEventLoop]:
    """The test's event loop, bound as the home of LoopActors; all actors must have ended before it does."""
    before = set(pykka.ActorRegistry.get_all())
    with bind_loop(asyncio.get_running_loop()) as binding:
        yield binding.loop
        # Closing the loop would end its actors, and hide that the test had not.
        left = [ref for ref in pykka.ActorRegistry.get_all() if ref not in before]
        assert not left, f"actors that were not ended: {left}"
