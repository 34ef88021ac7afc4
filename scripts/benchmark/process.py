"""Child processes with an end: their output kept in a file, their whole family gone when they are stopped."""

import contextlib
import os
import platform
import signal
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

GRACE_S = 10.0
"""How long a process may take to end when it is asked to."""


class ProcessDied(Exception):
    """A process that was needed is gone; the message has its last words."""


class Process:
    """A process in a session of its own, with its output in a file."""

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        cwd: Path,
        log: Path,
        cores: Collection[int] = (),
    ) -> None:
        """`cores`: the only ones that it and its children may use; none: all."""
        self.arguments = tuple(arguments)
        self._log = log
        with log.open("wb") as output:
            self.started_s = time.monotonic()
            self._child = subprocess.Popen(
                self.arguments,
                env=dict(environment),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        hold_to(self._child.pid, cores)

    @property
    def pid(self) -> int:
        return self._child.pid

    def check(self) -> None:
        """Raise ProcessDied, with its last words, unless it is alive."""
        code = self._child.poll()
        if code is not None:
            raise ProcessDied(f"{' '.join(self.arguments)}\nended with code {code}:\n{self.last_words()}")

    def last_words(self, lines: int = 20) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self) -> None:
        """Ask it to end, wait, and end by force what is left of its session."""
        try:
            if self._child.poll() is None:
                self._child.terminate()
                self._child.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._kill_session()
            self._child.wait(GRACE_S)

    def pause(self) -> None:
        """Have its whole session compute nothing until it goes on."""
        os.killpg(self._child.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.killpg(self._child.pid, signal.SIGCONT)

    def _kill_session(self) -> None:
        # Nobody may be left, which macOS says the second way.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, signal.SIGKILL)


def usable_cores() -> tuple[int, ...]:
    """Those that this process may use; none where processes can't be held to some."""
    if platform.system() != "Linux":
        return ()
    return tuple(sorted(os.sched_getaffinity(0)))


def hold_to(pid: int, cores: Collection[int]) -> None:
    """Let a process that has just begun use these cores only; its children and threads are held, too."""
    if cores and platform.system() == "Linux":
        os.sched_setaffinity(pid, cores)
