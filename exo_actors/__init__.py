"""The launcher: `python -m exo_actors` makes this machine a node."""

import sys

__version__ = "0.1.0"

OLDEST_PYTHON = (3, 11)

if sys.version_info[:2] < OLDEST_PYTHON:  # before anything that an older one can't even read
    raise SystemExit("exo_actors needs Python 3.11 or later: start it with scripts/run, which looks for one")
