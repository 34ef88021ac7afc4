"""Where the step loop's work comes in: a queue with a bell that a poll hears."""

import contextlib
import os
from queue import SimpleQueue

from engine.work import Work


class Bell:
    """Wakes a thread that waits for sockets. Any thread may ring; rings that nobody waited for are one."""

    def __init__(self) -> None:
        self._heard, self._struck = os.pipe()
        os.set_blocking(self._heard, False)
        os.set_blocking(self._struck, False)

    def ring(self) -> None:
        # A full pipe rings already.
        with contextlib.suppress(BlockingIOError):
            os.write(self._struck, b"\0")

    def silence(self) -> None:
        """It has been heard."""
        with contextlib.suppress(BlockingIOError):
            while len(os.read(self._heard, 4096)) == 4096:
                pass

    def fileno(self) -> int:
        """Readable while it rings."""
        return self._heard

    def close(self) -> None:
        os.close(self._heard)
        os.close(self._struck)


class Inbox(SimpleQueue[Work]):
    """Rings its bell for each piece of work."""

    def __init__(self) -> None:
        self.bell = Bell()

    def put(self, item: Work, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        self.bell.ring()
