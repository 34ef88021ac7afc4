"""The npm `openai` package against a real node."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clients.conftest import MODEL

PACKAGE = Path(__file__).parent / "npm"
TESTS = "openai.test.mjs"
INSTALL_S = 60.0
RUN_S = 90.0


@pytest.fixture(scope="session")
def package(request: pytest.FixtureRequest) -> Path:
    """Where the package is installed: in pytest's cache, so that it is fetched once."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node or npm is not installed")
    cache = request.config.cache
    assert cache is not None
    folder = cache.mkdir("npm-openai")
    fresh = (PACKAGE / "package-lock.json").read_bytes()
    lock = folder / "package-lock.json"
    if not (lock.is_file() and lock.read_bytes() == fresh and (folder / "node_modules").is_dir()):
        install(folder)
    shutil.copy(PACKAGE / TESTS, folder)
    return folder


def install(folder: Path) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copy(PACKAGE / name, folder)
    try:
        done = subprocess.run(
            ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
            check=False,
        )
        problem = done.stderr.strip()[-300:] if done.returncode else ""
    except subprocess.TimeoutExpired:
        problem = f"it took longer than {INSTALL_S:g} s"
    if problem:
        (folder / "package-lock.json").unlink()
        pytest.skip(f"npm can't fetch the openai package: {problem}")


def test_every_feature_of_the_three_routes(node: str, package: Path) -> None:
    done = subprocess.run(
        ["node", "--test", TESTS],
        cwd=package,
        env={**os.environ, "EXO_URL": node, "EXO_TEST_MODEL": MODEL},
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
