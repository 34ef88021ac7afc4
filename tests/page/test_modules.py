"""The page's pure JavaScript modules, tested by Node's own test runner where there is a Node."""

import shutil
import subprocess
from pathlib import Path

import pytest

TESTS = Path(__file__).with_name("modules.test.mjs")
OLDEST = (20, 19)
"""The first that takes a `.js` file for a module because of what it says."""


def test_the_pure_modules_pass_their_own_tests() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is missing: apt-get install nodejs")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if tuple(int(part) for part in version.strip().lstrip("v").split(".")[:2]) < OLDEST:
        pytest.skip(f"node {version.strip()} is too old: it does not know modules by their syntax")
    done = subprocess.run([node, "--test", str(TESTS)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
