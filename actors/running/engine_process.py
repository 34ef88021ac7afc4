"""One engine process: how it is started, how its log lines reach the node's log, and how it is ended."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from bus.keys import Keys

logger = logging.getLogger(__name__)

_ROOT = Path(__file__).parents[2]
_LONGEST_LINE = 1 << 20
_LEVELS = logging.getLevelNamesMapping()


class EngineProcess:
    """A running `python -m engine`. Its standard input is a pipe that only this node holds open: when the
    node is gone, however it went, the pipe closes and the engine ends itself."""

    def __init__(self, process: asyncio.subprocess.Process, exited: Callable[[int], None]) -> None:
        self._process = process
        self._task = asyncio.create_task(self._follow(exited), name=f"engine {process.pid}")

    @classmethod
    async def start(
        cls, endpoint: str, identity: bytes, keys: Keys | None, exited: Callable[[int], None]
    ) -> "EngineProcess":
        """Start an engine that connects to `endpoint`; `exited` is told its exit code, whyever it ends.

        `keys` are what it and the other ranks of its instance know each other by. They go through the pipe:
        arguments and environments can be read by others.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "engine",
            "--connect",
            endpoint,
            "--identity",
            identity.hex(),
            # The node's own settings decide which lines are kept, and where.
            "--log-level",
            "debug",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            limit=_LONGEST_LINE,
            env=_environment(),
            # A terminal's Ctrl-C goes to a whole session: the node alone decides how its engines end.
            start_new_session=True,
        )
        assert process.stdin is not None
        process.stdin.write(_line(keys))
        return cls(process, exited)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def runs(self) -> bool:
        """It has not ended yet."""
        return self._process.returncode is None

    def kill(self) -> None:
        """End it at once."""
        # Not by the process object's own `kill`: that looks first whether the process has ended, and so takes
        # the exit code away from asyncio, which waits for it.
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)

    async def end(self, patience_s: float) -> None:
        """Wait for an engine that was asked to stop; kill it when it does not."""
        try:
            async with asyncio.timeout(patience_s):
                await asyncio.shield(self._task)
        except TimeoutError:
            logger.warning("engine %d did not stop within %.1f s: killed", self.pid, patience_s)
        finally:
            self.kill()
        await self.ended()

    async def ended(self) -> None:
        """Wait for the end of a process that was killed, and of all that it wrote."""
        await asyncio.shield(self._task)

    async def _follow(self, exited: Callable[[int], None]) -> None:
        stderr, stdin = self._process.stderr, self._process.stdin
        assert stderr is not None
        assert stdin is not None
        while True:
            try:
                line = await stderr.readline()
            except ValueError:  # longer than the limit: the rest of it comes as a line of its own
                continue
            if not line:
                break
            _relay(line.decode(errors="replace").rstrip())
        code = await self._process.wait()
        stdin.close()
        exited(code)


def _line(keys: Keys | None) -> bytes:
    return b"%b %b\n" % (keys.public, keys.private) if keys is not None else b"\n"


def _environment() -> dict[str, str]:
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


def _relay(line: str) -> None:
    """Log an engine's line `LEVEL logger message` as if it were ours; anything else as it is."""
    level, _, rest = line.partition(" ")
    name, _, message = rest.partition(" ")
    if level in _LEVELS and name:
        logging.getLogger(name).log(_LEVELS[level], "%s", message)
    else:
        logger.warning("engine: %s", line)
