"""The engine process: `python -m engine --connect ENDPOINT --identity HEX`."""

import argparse
import gc
import logging
import os
import signal
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Final

from bus.keys import Keys
from engine.gauges import Gauges
from engine.inbox import Inbox
from engine.link import Link
from engine.threads import Threads
from host import blas, blas_threads

logger = logging.getLogger("engine")

SWITCH_S: Final = 0.0005
"""How long one of the two threads may keep the interpreter from the other. (Python's own 5 ms would be a
whole step of a small model.)"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 ended as asked, 1 failed."""
    options = _parse(arguments)
    keys = _keys_from(sys.stdin.buffer.readline())
    logging.basicConfig(
        level=options.log_level.upper(), stream=sys.stderr, format="%(levelname)s %(name)s %(message)s"
    )
    sys.setswitchinterval(SWITCH_S)
    # A terminal's Ctrl-C is the node's to act on; SIGTERM ends this process even in a long computation.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Models come from folders: no library may look for them, or for anything else, on the internet.
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    report = blas.preload()
    logger.info("BLAS: %s %s %s", report.state, report.library, report.note)

    inbox = Inbox()
    gauges = Gauges()
    link = Link(options.connect, bytes.fromhex(options.identity), _versions(), inbox, gauges)
    link.start()
    # Hardly anything of what is imported becomes garbage: to look for some costs a tenth of the time now, and
    # would hold up a step by 50 ms later.
    gc.disable()
    # MLX is imported only here: after OpenBLAS is in the process, and while the node knows that we live.
    from engine.life import live

    gc.freeze()
    gc.enable()
    code = live(link, inbox, gauges, Threads(report.threads or 1, blas_threads.setter(report)), keys)
    link.close()
    return code


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m engine", description=__doc__)
    parser.add_argument("--connect", required=True, metavar="ENDPOINT", help="the node's ROUTER")
    parser.add_argument(
        "--identity", required=True, metavar="HEX", help="the routing id that the node expects"
    )
    parser.add_argument(
        "--log-level", default="info", choices=("debug", "info", "warning", "error"), type=str.lower
    )
    return parser.parse_args(arguments)


def _keys_from(line: bytes) -> Keys | None:
    """From the first line on standard input: `public private`, or nothing. Arguments and environments can be
    read by others."""
    words = line.split()
    return Keys(*words) if words else None


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("mlx", "mlx-lm")}


if __name__ == "__main__":
    sys.exit(main())
