"""Finds out what MLX can do with a model, in a process of its own, once for each version of each model."""

import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, Final

import msgspec

from models.store import StoredModel

logger = logging.getLogger(__name__)

DEADLINE_S: Final = 120.0

COMMAND: Final = (sys.executable, "-m", "engine.examine")

_ROOT: Final = Path(__file__).parents[1]
_NICENESS: Final = 10
"""Nobody waits for it as much as for an answer."""


class Verdict(msgspec.Struct, frozen=True):
    """Why something can't be done with a model; empty: it can."""

    pipeline_problem: str
    """Dividing it into stages."""
    tensor_problem: str
    """Dividing its layers."""
    kv_quant_problem: str
    """Keeping its KV cache with fewer bits."""


class _Entry(msgspec.Struct, frozen=True):
    """What is kept of a folder: a verdict, and what it holds for."""

    mark: str
    mlx_lm: str
    verdict: Verdict


@dataclass(slots=True)
class _Examination:
    model: StoredModel
    process: subprocess.Popen[bytes]
    output: IO[bytes]
    errors: IO[bytes]
    opened: ExitStack
    """Its files and its pipe."""
    until: float


class Examiner:
    """Examines one model at a time. Never waits: whoever owns it polls."""

    def __init__(
        self, cache: Path | None, command: Sequence[str] = COMMAND, deadline_s: float = DEADLINE_S
    ) -> None:
        """`cache`: the file that verdicts are kept in; None: they are forgotten with this object."""
        self._cache, self._command, self._deadline_s = cache, tuple(command), deadline_s
        self._mlx_lm = metadata.version("mlx-lm")
        self._known = _read(cache) if cache is not None else {}
        self._failed: dict[str, _Entry] = {}
        self._queue: dict[Path, StoredModel] = {}
        self._running: _Examination | None = None

    @property
    def busy(self) -> bool:
        """Whether anything is under way or waits."""
        return self._running is not None or bool(self._queue)

    def verdict(self, model: StoredModel) -> Verdict | None:
        """What is known of a model as it lies there now."""
        folder = str(model.folder)
        entry = self._known.get(folder) or self._failed.get(folder)
        return entry.verdict if entry and (entry.mark, entry.mlx_lm) == (model.mark, self._mlx_lm) else None

    def want(self, models: Sequence[StoredModel]) -> None:
        """Have these examined, where that is not known, and no others any more."""
        self._queue = {
            model.folder: model for model in models if model.shape is not None and self.verdict(model) is None
        }
        if self._running is not None:
            folder, mark = self._running.model.folder, self._running.model.mark
            if folder in self._queue and self._queue[folder].mark == mark:
                del self._queue[folder]
            else:
                self.close()

    def poll(self) -> bool:
        """Go on; whether another verdict is there."""
        found = self._running is not None and self._collect(self._running)
        if self._running is None and self._queue:
            folder = next(iter(self._queue))
            self._start(self._queue.pop(folder))
        return found

    def close(self) -> None:
        """End what is under way."""
        if self._running is not None:
            _end(self._running)
            self._running = None

    def _start(self, model: StoredModel) -> None:
        with ExitStack() as opened:
            output, errors = (opened.enter_context(tempfile.TemporaryFile()) for _ in range(2))
            process = subprocess.Popen(
                [*self._command, str(model.folder)],
                # Held open by this node alone: when that is gone, however it went, the pipe closes.
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=errors,
                env=_environment(),
                start_new_session=True,
            )
            assert process.stdin is not None
            opened.enter_context(process.stdin)
            with suppress(OSError):  # it has ended already
                os.setpriority(os.PRIO_PROCESS, process.pid, _NICENESS)
            until = time.monotonic() + self._deadline_s
            self._running = _Examination(model, process, output, errors, opened.pop_all(), until)

    def _collect(self, running: _Examination) -> bool:
        late = time.monotonic() > running.until
        code = running.process.poll()
        if code is None and not late:
            return False
        result: Verdict | str = f"took longer than {self._deadline_s:g} s"
        if code is not None:
            result = _result(running, code)
        self.close()
        self._note(running.model, result)
        return True

    def _note(self, model: StoredModel, result: Verdict | str) -> None:
        folder = str(model.folder)
        for noted in (self._known, self._failed):
            noted.pop(folder, None)
        if isinstance(result, Verdict):
            self._known[folder] = _Entry(model.mark, self._mlx_lm, result)
            self._keep()
            return
        logger.warning(
            "model %s can't be divided, nor its KV cache quantised: examining it %s", model.id, result
        )
        text = f"it is not known what can be done with it: examining it {result}"
        # Not kept in the file: a machine that was busy or short of memory may do better at its next start.
        self._failed[folder] = _Entry(model.mark, self._mlx_lm, Verdict(text, text, text))

    def _keep(self) -> None:
        if self._cache is None:
            return
        lasting = {folder: entry for folder, entry in self._known.items() if Path(folder).is_dir()}
        partial = self._cache.with_suffix(".partial")
        try:
            partial.write_bytes(msgspec.json.format(msgspec.json.encode(lasting)))
            partial.replace(self._cache)
        except OSError as error:
            logger.warning("%s can't be written (%s): models will be examined again", self._cache, error)


def _result(running: _Examination, code: int) -> Verdict | str:
    if code != 0:
        running.errors.seek(0)
        lines = running.errors.read().decode(errors="replace").strip().splitlines()
        return f"failed: {lines[-1] if lines else f'its process ended with {code}'}"
    running.output.seek(0)
    try:
        return msgspec.json.decode(running.output.read(), type=Verdict)
    except msgspec.DecodeError as error:
        return f"gave no answer that can be read ({error})"


def _end(running: _Examination) -> None:
    with suppress(ProcessLookupError):
        os.killpg(running.process.pid, signal.SIGKILL)
    running.process.wait()
    running.opened.close()


def _read(cache: Path) -> dict[str, _Entry]:
    try:
        return msgspec.json.decode(cache.read_bytes(), type=dict[str, _Entry])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError) as error:
        logger.warning("%s can't be read (%s): models will be examined again", cache, error)
        return {}


def _environment() -> dict[str, str]:
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
