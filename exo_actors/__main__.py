"""The command line, `python -m exo_actors [run | doctor | watch]`: one clear line for what goes wrong."""

import errno
import gc
import logging
import os
import sys
from collections.abc import Callable, Sequence

from exo_actors import console
from exo_actors.logs import logging_to
from exo_actors.settings import Command, Settings, UsageError, read

logger = logging.getLogger(__name__)

STOPPED, FAILED, WRONG_USAGE = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; returns the exit code."""
    try:
        return _do(read(sys.argv[1:] if argv is None else argv, os.environ))
    except UsageError as error:
        console.fail(str(error))
        return WRONG_USAGE
    except KeyboardInterrupt:
        return STOPPED
    except BrokenPipeError:  # whoever read our output has what they wanted, as in `watch | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return STOPPED


def _do(settings: Settings) -> int:
    # Each command brings in what it needs itself: the doctor works where the node's packages are broken.
    match settings.command:
        case Command.RUN:
            return _run(settings)
        case Command.DOCTOR:
            from exo_actors import doctor

            return doctor.report(settings)
        case Command.WATCH:
            from exo_actors import watch

            return watch.watch(settings.node)


def _run(settings: Settings) -> int:
    try:
        with logging_to(settings.logs_dir, settings.log) as log_file:
            try:
                return _serve()(settings)
            except UsageError:
                raise  # what only shows when the node is built, such as a --model that is not there
            except Exception as error:
                logger.debug("the node failed", exc_info=True)
                console.fail(f"{explain(error, settings)} (details: {log_file})")
                return FAILED
    except OSError as error:
        console.fail(f"can't write to {settings.logs_dir}: {error.strerror}; give another --data-dir")
        return FAILED


def _serve() -> Callable[[Settings], int]:
    """The node's own modules, which stay: the garbage collector looks through none of them, neither now nor
    while tokens are on their way."""
    gc.disable()
    try:
        from exo_actors.node import serve
    finally:
        gc.freeze()
        gc.enable()
    return serve


def explain(error: Exception, settings: Settings) -> str:
    """An error in a person's words, and what to do where that is known."""
    address = f"{settings.host}:{settings.port}"
    match error:
        case OSError(filename=None, strerror=str(words)) if words.startswith("The bus"):
            return words
        case OSError(errno=errno.EADDRINUSE):
            return f"{address} is in use: stop what listens there, or give another --port (0: any free one)"
        case OSError(errno=errno.EADDRNOTAVAIL):
            return f"{settings.host} is no address of this machine: give another --host"
        case OSError(errno=errno.EACCES) if settings.port and settings.port < 1024:
            return f"port {settings.port} needs special rights: give one from 1024 on"
        case ModuleNotFoundError():
            return f"{error}: start with scripts/run, which installs what is missing"
        case _:
            return str(error) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
