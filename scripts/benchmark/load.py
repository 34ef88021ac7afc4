"""The benchmark's end of its client process."""

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from types import TracebackType

import msgspec

from scripts.benchmark.process import ProcessDied, hold_to
from scripts.benchmark.traffic import Plan, Report, Seen, Wish

MARGIN_S = 30.0
"""How much longer than a plan's own deadline its report may take."""


class Load:
    """Sends plans to the client process, one at a time, and takes its reports."""

    def __init__(self, root: Path) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", "scripts.benchmark.client"],
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._until = 0.0

    def __enter__(self) -> "Load":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._child.kill()
        self._child.communicate()

    def keep_to(self, cores: Collection[int]) -> None:
        """Have the clients use these cores only, if there are any."""
        hold_to(self._child.pid, cores)

    def run(self, wishes: Sequence[Wish], deadline_s: float) -> Report:
        self.start(wishes, deadline_s)
        return self.finish()

    def start(self, wishes: Sequence[Wish], deadline_s: float) -> None:
        """Set a plan going; `finish` has to follow."""
        assert self._child.stdin is not None
        plan = Plan(wishes=tuple(wishes), deadline_s=deadline_s)
        self._until = time.monotonic() + deadline_s + MARGIN_S
        self._child.stdin.write(msgspec.json.encode(plan) + b"\n")
        self._child.stdin.flush()

    def finish(self) -> Report:
        """The report of the plan that is under way. Raises ProcessDied if the client process gives none."""
        assert self._child.stdout is not None
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._child.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(self._until - time.monotonic(), 0.0)):
                    raise ProcessDied("the client process says nothing, long past its deadline")
                piece = os.read(self._child.stdout.fileno(), 1 << 20)
                if not piece:
                    raise ProcessDied("the client process ended; see above")
                line += piece
        return msgspec.json.decode(line, type=Report)


def check(seen: Sequence[Seen]) -> None:
    """Raise RuntimeError if a request went wrong: figures of errors are none."""
    for one in seen:
        if one.error or one.status not in (0, 200):
            said = json.dumps(one.error or one.text)
            raise RuntimeError(f"a request failed with status {one.status}: {said}")
